"""Python imports this before the script, because the recorder put its folder on PYTHONPATH.

It takes the folder off again, loads the recorder under a private name, starts it, and hands on to
the sitecustomize that would have been imported without us. From there on Python itself runs the
script: __main__, sys.argv, sys.path, tracebacks and exit codes are its own work.
"""


def _start():
    import importlib.util
    import json
    import os
    import sys

    here = os.path.dirname(os.path.abspath(__file__))
    options = json.loads(os.environ.pop("ASYNCIO_RECORDER"))
    _restore(os.environ, options["pythonpath"])
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    this = sys.modules.pop("sitecustomize")
    folder = os.path.dirname(here)
    spec = importlib.util.spec_from_file_location(
        "_asyncio_recorder",
        os.path.join(folder, "__init__.py"),
        submodule_search_locations=[folder],
    )
    package = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    session = importlib.import_module("_asyncio_recorder.session").Session(options)
    try:
        import sitecustomize  # noqa: F401 — the environment's own
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = this  # the import under way looks for it
    session.start()


def _restore(environ, before):
    if before is None:
        environ.pop("PYTHONPATH", None)
    else:
        environ["PYTHONPATH"] = before


_start()
