"""Build of the optional extensions: every ``ha_canal/**/_*.pyx``, compiled where there is a C compiler.

Everything else about the package stands in pyproject.toml. Without a compiler the installation succeeds, with one
warning: each extension has a twin in Python, which is slower and gives the same results.

    HA_CANAL_CHECKED=1   build with bounds checks and wraparound of indices (for tests; the default has neither)

In place, for work on them: ``python setup.py build_ext --inplace`` (``--force`` after a change of HA_CANAL_CHECKED).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError

CHECKED = os.environ.get("HA_CANAL_CHECKED") == "1"
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "boundscheck": CHECKED,
    "wraparound": CHECKED,
    "initializedcheck": CHECKED,
    "cdivision": True,
}
MACROS: list[tuple[str, str | None]] = [("HA_CANAL_CHECKED", "1")] if CHECKED else []
OPTIMISED = [] if sys.platform == "win32" or CHECKED else ["-O3"]


def extensions() -> list[Extension]:
    """Return one optional extension per source, each rebuilt when any declaration file changes."""
    here = Path(__file__).parent
    sources = sorted(path.relative_to(here) for path in here.glob("ha_canal/**/_*.pyx"))
    declarations = sorted(str(path.relative_to(here)) for path in here.glob("ha_canal/**/_*.px[di]"))
    return [
        Extension(
            ".".join(source.with_suffix("").parts),
            [str(source)],
            depends=declarations,
            define_macros=MACROS,
            extra_compile_args=OPTIMISED,
            optional=True,
        )
        for source in sources
    ]


class BuildOptional(build_ext):
    """Compiles what it can, and says once what the lack of a compiler means.

    An error in a ``.pyx`` itself is an error of the build: that needs no C compiler to be seen.
    """

    def build_extensions(self) -> None:
        self._warned = False
        self.force = self.force or CHECKED
        super().build_extensions()

    def build_extension(self, ext: Any) -> None:
        self._to_c(ext)
        try:
            super().build_extension(ext)
        except (CCompilerError, CompileError, BaseError, OSError) as error:
            if not self._warned:
                self.warn(
                    f"{ext.name} is not compiled ({error}): ha_canal works without its extensions, several times "
                    "slower. With gcc and the headers of Python (Debian: gcc python3-dev), install it again."
                )
            self._warned = True

    def _to_c(self, ext: Any) -> None:
        from Cython.Build import cythonize

        [translated] = cythonize(
            [Extension(ext.name, ext.sources, depends=ext.depends)],
            build_dir=f"build/cython{'-checked' if CHECKED else ''}",
            compiler_directives=DIRECTIVES,
            force=bool(self.force),
            quiet=True,
        )
        ext.sources = translated.sources


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOptional})
