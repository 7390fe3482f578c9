"""Ways to damage a checkpoint."""

import json

import pytest


class FailsWhenUnpickled:
    """An object whose unpickling fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def change_json(path, **settings):
    """Change some settings of a JSON file; `...` deletes one."""
    content = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))
