# Runs pip with the target's answers to "environment markers" (PyPA, "Dependency specifiers"): pip's own options for another
# platform choose wheels by it, but judge `; python_version < "3.11"` by the Python that runs.
# Arguments: the markers as JSON, then pip's own. The report says which markers were used, so labimg sees whether this worked.
import json
import runpy
import sys

target = json.loads(sys.argv.pop(1))
try:
    from pip._vendor.packaging import markers

    markers.default_environment = lambda: dict(target)
except ImportError:
    pass
runpy.run_module("pip", run_name="__main__", alter_sys=True)
