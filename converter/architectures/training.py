"""Variables that davidsandberg/facenet's training scripts save beside the network.

The published checkpoints hold none of it: the scripts save trainable variables only. It appears
where all global variables were saved. Measured by running the original `facenet.train` and
`facenet.center_loss` (096ed77) with each of its five optimisers and listing the variables.
"""

from __future__ import annotations

from converter.rules import Drop

_STEP = "the training step counter"
_LOSS = "a moving average of a loss"
_SHADOW = "the moving average of a variable, kept for evaluation during training"
_CENTERS = "class centres of the centre loss"

_SLOTS = {
    "Adagrad": "Adagrad",
    "Adadelta": "Adadelta",
    "Adadelta_1": "Adadelta",
    "Adam": "Adam",
    "Adam_1": "Adam",
    "RMSProp": "RMSProp",
    "RMSProp_1": "RMSProp",
    "Momentum": "Momentum",
}

TRAINING_LEFTOVERS: tuple[Drop, ...] = (
    Drop("global_step", _STEP),
    Drop("Variable", _STEP + " (the original scripts give it no name)"),
    Drop("beta1_power", "a scalar of the Adam optimiser"),
    Drop("beta2_power", "a scalar of the Adam optimiser"),
    Drop("centers", _CENTERS),
    *(Drop(f"centers/{slot}", f"{name} optimiser slot") for slot, name in _SLOTS.items()),
    Drop("cross_entropy/avg", _LOSS),
    Drop("total_loss/avg", _LOSS),
    Drop("{variable}/ExponentialMovingAverage", _SHADOW),
    *(Drop(f"{{variable}}/{slot}", f"{name} optimiser slot") for slot, name in _SLOTS.items()),
)
