"""How many samples something is tried on: told by command lines, which load nothing to tell it, and kept to by what
tries."""

BUDGET_SAMPLES = 2  # that each layer is tried on in every codec: each costs part of an inference for all of these
WHOLE_SAMPLES = 8  # that the choices of a budget are tried on as whole models: an inference each
