"""SLiM's encoder as a backbone of PYSKL: `custom_imports =
dict(imports=["slim_fast.interop.pyskl"])` registers it as "SLiM" where PYSKL is installed.
"""

from slim_fast.interop.adapters.backbone import Backbone
from slim_fast.interop.adapters.registry import find_registry


class SLiM(Backbone):
    __doc__ = Backbone.__doc__


if (_backbones := find_registry("pyskl.models.builder", "BACKBONES")) is not None:
    _backbones.register_module(name="SLiM", module=SLiM)
