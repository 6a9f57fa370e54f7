"""A backend that loads nothing: it stands in for any other where only Triton's own judgement is asked for."""
