"""The conformance kit: what every adapter has to pass, ours and other people's alike.

Subclass `AdapterContract` in a test module, name the adapter and build a tiny checkpoint; pytest
runs the rest. The checks themselves are plain functions in `parity`, `paint` and `conduct`. This
package is for tests: the engine never imports it, and it needs pytest.
"""

from vg_engine.testing.contract import AdapterContract, Golden
from vg_engine.testing.opened import ContractError, Opened, noise, open_adapter

__all__ = ["AdapterContract", "ContractError", "Golden", "Opened", "noise", "open_adapter"]
