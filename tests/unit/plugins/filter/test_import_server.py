# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: Wirefleet contributors

from __future__ import annotations

from ansible_collections.wirefleet.vpn.plugins.filter.import_server import FilterModule
from ansible_collections.wirefleet.vpn.plugins.module_utils._import import take_over
from ansible_collections.wirefleet.vpn.plugins.module_utils._keys import generate_private_key

import_server = FilterModule().filters()["import_server"]

SEED = "8W3DSpjZQrzOc3DtvV7iK0HeJTQ7wZ1KUI/Id6uEsWo="
SETTINGS = {"cluster": "default", "port": 51820, "client_networks": ["10.80.0.0/16"], "reserved_addresses": []}
SERVER = f"""\
[Interface]
PrivateKey = {generate_private_key()}
ListenPort = 51820
# alice
[Peer]
PublicKey = wD8mWjHnVd1sIuDJXRvSkhgPsd2ehLPkMR9wGwKkFlc=
AllowedIPs = 10.80.0.2/32
"""


def test_a_server_without_problems_is_taken_over() -> None:
    assert import_server(SERVER, "", SETTINGS, SEED) == {**take_over(SERVER, "", SETTINGS, SEED), "problems": []}


def test_problems_come_alone_and_hold_no_secret() -> None:
    found = import_server(SERVER, "", {**SETTINGS, "port": 443}, SEED)
    assert found == {"problems": ["it listens on 51820, and vpn_port is 443: clients know only one"]}
    broken = import_server(SERVER.replace("PrivateKey", "PrivatKey"), "", SETTINGS, SEED)
    assert broken == {"problems": ["line 2: [Interface] knows no such key: PrivatKey"]}
