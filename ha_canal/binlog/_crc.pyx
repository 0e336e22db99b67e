# cython: language_level=3
"""CRC-32 as zlib has it, as fast as the processor can.

Where it multiplies without carries (x86-64 with PCLMULQDQ), 64 bytes at a time are folded onto the next 64, which
leaves 16 bytes with the same remainder (Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
Instruction", Intel, 2009). What is left, and all elsewhere, goes eight bytes at a time through tables ("slicing by 8";
Kounavis and Berry, Intel, 2005).
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>

    /* x^n modulo the polynomial, bits reflected, for two halves that are moved by so many bits: the paper's k1 to k4. */
    #define HA_CANAL_BY_512 _mm_set_epi64x(0x01c6e41596, 0x0154442bd4)
    #define HA_CANAL_BY_128 _mm_set_epi64x(0x00ccaa009e, 0x01751997d0)

    __attribute__((target("pclmul,sse2")))
    static inline __m128i ha_canal_moved(__m128i block, __m128i by)
    {
        return _mm_xor_si128(_mm_clmulepi64_si128(block, by, 0x00), _mm_clmulepi64_si128(block, by, 0x11));
    }

    /* Fold the 64 bytes and more at `at` to 16 with the same remainder; `size` is a multiple of 16. */
    __attribute__((target("pclmul,sse2")))
    static void ha_canal_fold(const uint8_t *at, size_t size, uint32_t crc, uint8_t *rest)
    {
        const __m128i *from = (const __m128i *)at, *end = (const __m128i *)(at + size);
        __m128i one = _mm_xor_si128(_mm_loadu_si128(from), _mm_cvtsi32_si128((int)crc));
        __m128i two = _mm_loadu_si128(from + 1);
        __m128i three = _mm_loadu_si128(from + 2);
        __m128i four = _mm_loadu_si128(from + 3);
        for (from += 4; end - from >= 4; from += 4) {
            one = _mm_xor_si128(ha_canal_moved(one, HA_CANAL_BY_512), _mm_loadu_si128(from));
            two = _mm_xor_si128(ha_canal_moved(two, HA_CANAL_BY_512), _mm_loadu_si128(from + 1));
            three = _mm_xor_si128(ha_canal_moved(three, HA_CANAL_BY_512), _mm_loadu_si128(from + 2));
            four = _mm_xor_si128(ha_canal_moved(four, HA_CANAL_BY_512), _mm_loadu_si128(from + 3));
        }
        two = _mm_xor_si128(ha_canal_moved(one, HA_CANAL_BY_128), two);
        three = _mm_xor_si128(ha_canal_moved(two, HA_CANAL_BY_128), three);
        four = _mm_xor_si128(ha_canal_moved(three, HA_CANAL_BY_128), four);
        for (; from < end; from++)
            four = _mm_xor_si128(ha_canal_moved(four, HA_CANAL_BY_128), _mm_loadu_si128(from));
        _mm_storeu_si128((__m128i *)rest, four);
    }

    static int ha_canal_folds(void) { return __builtin_cpu_supports("pclmul"); }
    #else
    static void ha_canal_fold(const uint8_t *at, size_t size, uint32_t crc, uint8_t *rest) {}
    static int ha_canal_folds(void) { return 0; }
    #endif
    """
    void fold "ha_canal_fold"(const uint8_t* at, size_t size, uint32_t crc, uint8_t* rest) noexcept nogil
    bint folds "ha_canal_folds"() noexcept nogil

cdef bint FOLDS = folds()

cdef uint32_t CRC[8][256]


cdef void fill_crc_tables() noexcept:
    cdef uint32_t value
    cdef int i, j
    for i in range(256):
        value = i
        for j in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        CRC[0][i] = value
    for i in range(256):
        for j in range(1, 8):
            CRC[j][i] = (CRC[j - 1][i] >> 8) ^ CRC[0][CRC[j - 1][i] & 0xFF]


fill_crc_tables()


cdef uint32_t crc32(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    cdef uint32_t crc = 0xFFFFFFFFu
    cdef uint8_t[16] rest
    cdef Py_ssize_t folded
    if FOLDS and size >= 64:
        folded = size & ~<Py_ssize_t>15
        fold(at, folded, crc, rest)
        crc = through_tables(rest, 16, 0)
        at += folded
        size -= folded
    return ~through_tables(at, size, crc)


cdef uint32_t through_tables(const uint8_t* at, Py_ssize_t size, uint32_t crc) noexcept nogil:
    cdef uint32_t low, high
    while size >= 8:
        low = crc ^ u32(at)
        high = u32(at + 4)
        crc = (
            CRC[7][low & 0xFF] ^ CRC[6][low >> 8 & 0xFF] ^ CRC[5][low >> 16 & 0xFF] ^ CRC[4][low >> 24]
            ^ CRC[3][high & 0xFF] ^ CRC[2][high >> 8 & 0xFF] ^ CRC[1][high >> 16 & 0xFF] ^ CRC[0][high >> 24]
        )
        at += 8
        size -= 8
    while size > 0:
        crc = (crc >> 8) ^ CRC[0][(crc ^ at[0]) & 0xFF]
        at += 1
        size -= 1
    return crc


def checksum_of(data):
    """Return zlib's CRC-32 of ``data``, which is bytes or a view of some."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return crc32(<const uint8_t*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
