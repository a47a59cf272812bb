"""SLiM's encoder as a backbone of PYSKL: `custom_imports = dict(imports=["slim_fast.interop.pyskl"])` registers it as
"SLiM" where PYSKL is installed.
"""

from __future__ import annotations

from slim_fast.interop.adapter import Backbone, registry


class SLiM(Backbone):
    __doc__ = Backbone.__doc__


if (_backbones := registry("pyskl.models.builder", "BACKBONES")) is not None:
    _backbones.register_module(name="SLiM", module=SLiM)
