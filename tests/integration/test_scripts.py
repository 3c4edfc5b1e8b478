"""Training scripts as people write them, watched from outside: the same training, its norms, and any threshold instead of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import PROLOGUE, Kind, check

PLAIN = (
    PROLOGUE
    + """
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, TensorDataset

model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
decay = [p for p in model.parameters() if p.ndim > 1]
rest = [p for p in model.parameters() if p.ndim == 1]
optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-2)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 5)
x = torch.randn(96, 8)
loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
done = 0
while done < args.steps:
    for inputs, target in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), target)
        loss.backward()
        note(model.parameters())
        if args.clip:
            clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        scheduler.step()
        done += 1
        if done == args.steps:
            break
finish(model)
"""
)
AMP = (
    PROLOGUE
    + """
model = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
for step in range(args.steps):
    for micro in range(3):
        x = torch.randn(8, 8)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True)) / 3
        scaler.scale(loss).backward()
    if args.norms or args.clip:
        scaler.unscale_(optimizer)
    note(model.parameters())
    if args.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
finish(model)
"""
)
LBFGS = (
    PROLOGUE
    + """
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
x = torch.randn(64, 4)
y = x.prod(1, keepdim=True)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
for step in range(args.steps):
    first = True

    def closure():
        global first
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        if first:
            note(model.parameters())
            first = False
        if args.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        return loss

    optimizer.step(closure)
finish(model)
"""
)
GAN = (
    PROLOGUE
    + """
generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
for_generator = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
for_critic = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
bce = nn.BCEWithLogitsLoss()
one, zero = torch.ones(16, 1), torch.zeros(16, 1)
for step in range(args.steps):
    real, z = torch.randn(16, 2) + 2, torch.randn(16, 4)
    fake = generator(z)
    for_critic.zero_grad()
    loss = bce(critic(real), one) + bce(critic(fake.detach()), zero)
    loss.backward()
    for_critic.step()
    for_generator.zero_grad()
    loss = bce(critic(fake), one)
    loss.backward()
    note(generator.parameters())
    if args.clip:
        nn.utils.clip_grad_norm_(generator.parameters(), args.clip)
    for_generator.step()
finish(nn.ModuleDict({"generator": generator, "critic": critic}))
"""
)
COMPILED = (
    PROLOGUE
    + """
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
compiled = torch.compile(model, backend="aot_eager", fullgraph=True)


@torch.compile(backend="aot_eager", fullgraph=False)
def step():
    optimizer.step()


for i in range(args.steps):
    x = torch.randn(16, 8)
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(compiled(x), x.sum(1, keepdim=True))
    loss.backward()
    note(model.parameters())
    if args.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    step()
finish(model)
"""
)
KINDS = {
    "plain": (PLAIN, 1.0, 0.5, 1),
    "amp": (AMP, 1.0, 0.5, 1),
    "lbfgs": (LBFGS, 1.0, 0.05, 1),
    "gan": (GAN, 1.0, 0.05, 2),
    "compiled": (COMPILED, 1.0, 0.5, 1),
}


WHOLE = ("plain", "compiled")
"""Started as a user starts them: that the hooks are there when torch is imported, and that the compiler waits for the script."""


@pytest.mark.parametrize("name", KINDS)
def test_watched_from_outside(tmp_path: Path, name: str) -> None:
    text, clip, force, optimizer = KINDS[name]
    (tmp_path / "train.py").write_text(text)
    owns = (clip,) if name == "compiled" else None  # the compiler takes seconds in every process
    check(Kind(tmp_path, "train.py"), clip=clip, force=force, optimizer=optimizer, owns=owns, real=name in WHOLE)
