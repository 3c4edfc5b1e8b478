"""Training scripts as the users of each framework write them, small and with random weights; each begins with PROLOGUE."""

from __future__ import annotations

from script_runs import PROLOGUE

BERT_TRAINER = (
    PROLOGUE
    + """
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments


class Reviews(torch.utils.data.Dataset):
    def __init__(self, size):
        self.tokens = torch.randint(1, 40, (size, 10))
        self.labels = (self.tokens[:, 0] > 20).long()

    def __getitem__(self, index):
        return {
            "input_ids": self.tokens[index],
            "attention_mask": torch.ones(10, dtype=torch.long),
            "labels": self.labels[index],
        }

    def __len__(self):
        return len(self.labels)


class NoteNorms(TrainerCallback):
    def on_pre_optimizer_step(self, arguments, state, control, model=None, **kwargs):
        note(model.parameters())


config = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
)
model = BertForSequenceClassification(config)
training_args = TrainingArguments(
    output_dir="results",
    max_steps=args.steps,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    learning_rate=1e-3,
    warmup_steps=2,
    weight_decay=0.01,
    max_grad_norm=args.clip,
    logging_steps=2,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
)
trainer = Trainer(model=model, args=training_args, train_dataset=Reviews(64), eval_dataset=Reviews(8))
trainer.add_callback(NoteNorms())
trainer.train()
trainer.evaluate()
finish(model)
"""
)
"""The custom-data tutorial of transformers: a Dataset of dicts, TrainingArguments, Trainer."""

GPT2_TRAINER = (
    PROLOGUE
    + """
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, default_data_collator


class NoteNorms(TrainerCallback):
    def on_pre_optimizer_step(self, arguments, state, control, model=None, **kwargs):
        note(model.parameters())


block_size = 12
tokens = torch.randint(0, 32, (48 * block_size,))
blocks = [{"input_ids": block, "labels": block.clone()} for block in tokens.split(block_size)]
model = GPT2LMHeadModel(
    GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
)
training_args = TrainingArguments(
    output_dir="clm",
    num_train_epochs=1,
    max_steps=args.steps,
    per_device_train_batch_size=4,
    learning_rate=5e-3,
    lr_scheduler_type="cosine",
    adam_beta2=0.95,
    max_grad_norm=args.clip,
    fp16=False,
    bf16=False,
    gradient_checkpointing=True,
    gradient_checkpointing_kwargs={"use_reentrant": True},
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    use_cpu=True,
    disable_tqdm=True,
    seed=7,
)
trainer = Trainer(
    model=model, args=training_args, train_dataset=blocks, data_collator=default_data_collator, callbacks=[NoteNorms()]
)
result = trainer.train()
print("perplexity", math.exp(result.training_loss))
finish(model)
"""
)
"""After transformers' run_clm.py: blocks of one length, a cosine schedule, checkpointed activations."""

LIGHTNING_AUTOMATIC = (
    PROLOGUE
    + """
import lightning as L
from torch.utils.data import DataLoader, TensorDataset

L.seed_everything(0, workers=True)


class LitRegressor(L.LightningModule):
    def __init__(self, lr=1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self(x), y))

    def on_before_optimizer_step(self, optimizer):
        note(self.parameters())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.hparams.lr, total_steps=args.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


x = torch.randn(64, 8)
data = TensorDataset(x, x.sum(1, keepdim=True))
model = LitRegressor()
trainer = L.Trainer(
    max_steps=args.steps,
    accelerator="cpu",
    accumulate_grad_batches=2,
    gradient_clip_val=args.clip or None,
    logger=False,
    enable_checkpointing=False,
)
trainer.fit(model, DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=32))
finish(model)
"""
)
"""Lightning in 15 minutes, with its clipping and a schedule: the backward pass is in a closure of the optimizer's step."""

LIGHTNING_MANUAL = (
    PROLOGUE
    + """
import lightning as L
from torch.utils.data import DataLoader, TensorDataset

L.seed_everything(0)


class LitManual(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        sch = self.lr_schedulers()
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y) / 2
        self.manual_backward(loss)
        if (batch_idx + 1) % 2 == 0:
            note(self.parameters())
            if args.clip:
                self.clip_gradients(opt, gradient_clip_val=args.clip, gradient_clip_algorithm="norm")
            opt.step()
            opt.zero_grad()
            sch.step()
        self.log("train_loss", loss)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)]


x = torch.randn(64, 8)
data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8, shuffle=True)
trainer = L.Trainer(
    max_steps=args.steps, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False
)
model = LitManual()
trainer.fit(model, data)
finish(model)
"""
)
"""Lightning's page on manual optimisation: accumulation, clip_gradients and the schedule by hand."""

FABRIC = (
    PROLOGUE
    + """
from lightning.fabric import Fabric, seed_everything
from torch.utils.data import DataLoader, TensorDataset

fabric = Fabric(accelerator="cpu", devices=1)
fabric.launch()
seed_everything(0)
with fabric.init_module():
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
model, optimizer = fabric.setup(model, optimizer)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
x = torch.randn(96, 8)
train_loader = fabric.setup_dataloaders(
    DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=8, shuffle=True), use_distributed_sampler=False
)
model.train()
done = 0
while done < args.steps:
    for iteration, (data, target) in enumerate(train_loader):
        accumulating = iteration % 2 == 0
        with fabric.no_backward_sync(model, enabled=accumulating):
            loss = nn.functional.cross_entropy(model(data), target)
            fabric.backward(loss / 2)
        if accumulating:
            continue
        note(model.parameters())
        if args.clip:
            fabric.clip_gradients(model, optimizer, max_norm=args.clip)
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        if done == args.steps:
            break
    scheduler.step()
fabric.print(f"loss {loss.item():.6f}")
finish(model)
"""
)
"""Fabric's image classifier, with accumulation as its documentation has it."""

ACCELERATE = (
    PROLOGUE
    + """
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, get_linear_schedule_with_warmup

EVAL_BATCH_SIZE = 8


def get_dataloaders(accelerator, batch_size=8):
    examples = []
    for i in range(96):
        ids = torch.randint(1, 40, (int(torch.randint(4, 12, ())),))
        examples.append({"input_ids": ids, "labels": int(ids[0] > 20)})

    def collate_fn(examples):
        ids = nn.utils.rnn.pad_sequence([e["input_ids"] for e in examples], batch_first=True)
        labels = torch.tensor([e["labels"] for e in examples])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    train = DataLoader(examples[:80], shuffle=True, collate_fn=collate_fn, batch_size=batch_size, drop_last=True)
    return train, DataLoader(examples[80:], shuffle=False, collate_fn=collate_fn, batch_size=EVAL_BATCH_SIZE)


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accumulate"])
    set_seed(config["seed"])
    train_dataloader, eval_dataloader = get_dataloaders(accelerator, config["batch_size"])
    model = BertForSequenceClassification(
        BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    model = model.to(accelerator.device)
    optimizer = AdamW(params=model.parameters(), lr=config["lr"])
    lr_scheduler = get_linear_schedule_with_warmup(
        optimizer=optimizer, num_warmup_steps=2, num_training_steps=args.steps
    )
    model, optimizer, train_dataloader, eval_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, eval_dataloader, lr_scheduler
    )
    done = 0
    while done < args.steps:
        model.train()
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                accelerator.backward(outputs.loss)
                if accelerator.sync_gradients:
                    note(model.parameters())
                    if args.clip:
                        accelerator.clip_grad_norm_(model.parameters(), args.clip)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            done += accelerator.sync_gradients
            if done == args.steps:
                break
        model.eval()
        right = []
        for batch in eval_dataloader:
            with torch.no_grad():
                outputs = model(**batch)
            predictions, references = accelerator.gather_for_metrics((outputs.logits.argmax(-1), batch["labels"]))
            right.append((predictions == references).float())
        accelerator.print(f"accuracy {torch.cat(right).mean():.3f}")
    accelerator.end_training()
    finish(accelerator.unwrap_model(model))


if __name__ == "__main__":
    training_function({"lr": 2e-3, "seed": 42, "batch_size": 8, "accumulate": 2})
"""
)
"""accelerate's nlp_example.py, with its data made up here."""

TIMM = (
    PROLOGUE
    + """
import copy
from functools import partial


def dispatch_clip_grad(parameters, value, mode="norm", norm_type=2.0):
    if mode == "norm":
        torch.nn.utils.clip_grad_norm_(parameters, value, norm_type=norm_type)
    elif mode == "value":
        torch.nn.utils.clip_grad_value_(parameters, value)
    else:
        raise AssertionError(f"Unknown clip mode ({mode}).")


class NativeScaler:
    def __init__(self, device):
        self._scaler = torch.amp.GradScaler(device)

    def __call__(self, loss, optimizer, clip_grad=None, clip_mode="norm", parameters=None, need_update=True):
        self._scaler.scale(loss).backward()
        if need_update:
            if clip_grad is not None or args.norms:
                self._scaler.unscale_(optimizer)
                note(model.parameters())
            if clip_grad is not None:
                dispatch_clip_grad(parameters, clip_grad, mode=clip_mode)
            self._scaler.step(optimizer)
            self._scaler.update()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema, value in zip(self.module.state_dict().values(), model.state_dict().values(), strict=True):
            ema.copy_(self.decay * ema + (1.0 - self.decay) * value)


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x):
        return nn.functional.relu(x + self.bn(self.conv(x)))


model = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
)
optimizer = torch.optim.SGD(param_groups_weight_decay(model, 1e-4), lr=0.2, momentum=0.9, nesterov=True)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 * (1 + math.cos(math.pi * n / (args.steps + 1))))
model_ema = ModelEma(model, decay=0.9)
amp_autocast = partial(torch.autocast, device_type="cpu", dtype=torch.float16)
loss_scaler = NativeScaler("cpu")
train_loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
model.train()
for num_updates in range(1, args.steps + 1):
    input, target = 20 * torch.randn(16, 3, 12, 12), torch.randint(0, 5, (16,))
    with amp_autocast():
        output = model(input)
        loss = train_loss_fn(output, target)
    loss_scaler(loss, optimizer, clip_grad=args.clip or None, clip_mode="norm", parameters=model.parameters())
    model_ema.update(model)
    optimizer.zero_grad()
    scheduler.step()
finish(nn.ModuleDict({"model": model, "ema": model_ema}))
"""
)
"""timm's train.py without timm: a scaler that is called with the loss, an average of the weights, decay for some tensors."""

TINY_LANGUAGE_MODEL = """
import json, os, random
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

words = ["<pad>", "<eos>", "<unk>", *(f"w{i}" for i in range(40))]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
fast.save_pretrained("tiny")
sizes = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}
GPT2LMHeadModel(GPT2Config(vocab_size=len(words), **sizes)).save_pretrained("tiny")
os.makedirs("data")
with open("data/train.jsonl", "w") as f:
    for _ in range(64):
        f.write(json.dumps({"text": " ".join(random.choices(words[3:], k=12))}) + "\\n")
"""
"""A model, its tokenizer and a data set, as folders."""
