"""What is advised on optimisers and their settings; see `test_advice_tuning`."""

from __future__ import annotations

from typing import Any

import torch

import mechconn as mc
from advice import CLEAN, Advice, tune
from mechconn.descent import check_nameable
from zoo import build, mlp


def naive(**settings: Any) -> mc.NaiveFineTuning:
    return mc.NaiveFineTuning(**{"epochs": 1, "batch_size": 8, **settings})


def named(groups: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr)


def half(groups: Any, lr: float) -> torch.optim.Optimizer:
    """Without the last weight."""
    return torch.optim.SGD([{**groups[0], "params": groups[0]["params"][:-1]}], lr)


def undecayed(groups: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": groups[0]["params"]}], lr)


OPTIMIZERS: dict[str, Advice] = {
    "MADE_BEFORE": Advice(
        lambda: naive(optimizer=torch.optim.SGD(build(mlp).parameters(), 0.1)),
        "pass the class, torch.optim.SGD",
        (lambda: tune(method=naive(optimizer=torch.optim.SGD)),),
    ),
    "SETTING_OF_THE_METHOD": Advice(
        lambda: naive(optimizer={"name": "torch.optim:RMSprop", "weight_decay": 0.1}),
        "has no option 'weight_decay', which is a setting of the method; set it there",
        (lambda: tune(method=naive(optimizer="torch.optim:RMSprop", weight_decay=0.1)),),
    ),
    "NO_NAME": Advice(
        lambda: check_nameable(naive(optimizer=lambda groups, lr: named(groups, lr), lr=0.1)),
        "define it in a module, and name it 'package.module:function'",
        (
            lambda: check_nameable(naive(optimizer=named, lr=0.1)),
            lambda: naive(optimizer=f"{__name__}:named", lr=0.1),
        ),
    ),
    "CLOSURE": Advice(
        lambda: tune(method=naive(optimizer=torch.optim.LBFGS, weight_decay=0.0)),
        "use one that steps without, such as optimizer='adamw'",
        (lambda: tune(method=naive(optimizer="adamw")),),
    ),
    "OTHER_WEIGHTS": Advice(
        lambda: tune(method=naive(lr=0.1, optimizer=half)),
        "must hold each of the weights that it is given; pass the groups on as they are",
        (lambda: tune(method=naive(lr=0.1, optimizer=named)),),
    ),
    "OTHER_DECAY": Advice(
        lambda: tune(method=naive(lr=0.1, optimizer=undecayed)),
        "decays weights by 0, and weight_decay is 0.0001; pass the groups on as they are, or, where it has no weight "
        "decay, set weight_decay=0.0",
        (
            lambda: tune(method=naive(lr=0.1, optimizer=named)),
            lambda: tune(method=naive(lr=0.1, optimizer=undecayed, weight_decay=0.0)),
        ),
    ),
    "NO_DECAY": Advice(
        lambda: tune(method=naive(optimizer=torch.optim.Rprop)),
        "where it has no weight decay, set weight_decay=0.0",
        (lambda: tune(method=naive(optimizer=torch.optim.Rprop, weight_decay=0.0)),),
    ),
    "BETAS": Advice(lambda: mc.Adam(betas=(0.9, 1.0)), "write (0.9, 0.999)", (lambda: mc.Adam(betas=(0.9, 0.999)),)),
    "MOMENTUM": Advice(
        lambda: naive(optimizer="adam", momentum=0.5),
        "momentum is a setting of SGD, got momentum=0.5 with optimizer='adam'; leave it out",
        (lambda: naive(optimizer="adam"),),
    ),
    "NOTHING_DECAYED": Advice(
        lambda: naive(weight_decay=0.0, weight_decay_on="matrices"),
        "set weight_decay=0.05 or another, or leave it out",
        (lambda: naive(weight_decay=0.05, weight_decay_on="matrices"), lambda: naive(weight_decay=0.0)),
    ),
    "NO_RATE": Advice(
        lambda: naive(optimizer=named), "set lr, such as lr=0.001", (lambda: naive(optimizer=named, lr=0.001),)
    ),
    "WARM_UP": Advice(
        lambda: naive(warmup=1.5), "write 100 or 0.05", (lambda: naive(warmup=100), lambda: naive(warmup=0.05))
    ),
    "LONG_WARM_UP": Advice(
        lambda: mc.train(build(mlp), CLEAN, naive(warmup=4)),
        "set a share of them, such as warmup=0.1, or more epochs",
        (
            lambda: mc.train(build(mlp), CLEAN, naive(warmup=0.1)),
            lambda: mc.train(build(mlp), CLEAN, naive(warmup=4, epochs=2)),
        ),
    ),
}
