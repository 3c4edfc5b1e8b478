"""The commented spec that ``clipcal init`` writes."""

STARTER = """\
# What `clipcal calibrate` trains. Every object is named by an import path (`_target_`); the other keys are its arguments.
# Modules are looked for next to this file, then in the working directory, then among the installed packages.
# A factory with an argument named `seed` is given the seed of the run.

model: {_target_: my_project.model.MyModel, hidden_size: 128}       # a torch.nn.Module

data: {_target_: my_project.data.train_batches, batch_size: 32}     # a DataLoader, or any iterable of batches

# How a batch becomes a loss; keep one of the three:
loss: {_target_: torch.nn.CrossEntropyLoss}                         # loss(model(inputs), target); data yields (inputs, target)
# training_step: {_target_: my_project.train.step}                  # step(model, batch) -> loss
# (neither)                                                         # model(**batch).loss, as Hugging Face models give it

optimizer: {_target_: torch.optim.AdamW, lr: 3e-4}                  # gets model.parameters(); a factory(model, ...) gets the model
# scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10000}   # stepped once per optimizer step

steps: 300                 # optimizer steps to observe: 50 give a first number, 200 after the warm-up are adequate
# seed: 0
# device: auto             # auto | cpu | cuda | cuda:1 | mps
# precision: fp32          # fp32 | bf16 | fp16 (with a GradScaler; norms are those of the unscaled gradients)
# accumulate: 1            # micro-batches per optimizer step
# clip: {method: norm, norm_type: 2.0}     # norm | value | per_tensor
"""
