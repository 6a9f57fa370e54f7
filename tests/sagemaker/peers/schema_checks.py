"""Has a process check each JSON schema once: SDK 2 and 3 check theirs at most of their steps, for 0.13 s each time."""

import jsonschema

_check = jsonschema.Draft202012Validator.check_schema
_checked = {}


def _check_once(schema, **options):
    if _checked.get(id(schema)) is not schema:
        _check(schema, **options)
        _checked[id(schema)] = schema


jsonschema.Draft202012Validator.check_schema = _check_once
