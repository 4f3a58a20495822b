"""The package of the plugins that are files: `heal.plugin_files.my_encoder` is the file my_encoder.py that HEAL_PLUGINS lists.

A network is pickled with the name of its module, and the process that unpickles it imports the module by this name. Child processes
inherit the variable, so they find the file too, whether or not they have used a plugin before.
"""

import os
from pathlib import Path

VARIABLE = "HEAL_PLUGINS"
__path__ = [str(Path(name).absolute().parent) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name.endswith(".py")]
