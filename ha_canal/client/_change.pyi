from ha_canal.client.change_twin import Change as Change
from ha_canal.client.change_twin import Row as Row
