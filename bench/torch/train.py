"""The recurrent-depth model in plain torch, and its training step: what `bench` compares `unroll train` with.

Reads a job (JSON) whose path is the argument, prints one line of JSON. The architecture is that of the Huginn checkpoint with a sandwich
block: norms before and behind attention and MLP, the latter on the residual sum; rotary pairs side by side; biases on q and k.
"""

import json
import math
import resource
import struct
import sys
import time

import torch
import torch.nn.functional as F


def read_safetensors(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: torch.frombuffer(bytearray(data[slice(*entry["data_offsets"])]), dtype=torch.float32).reshape(entry["shape"])
        for name, entry in header.items()
    }


class Batch:
    """Tokens with the token before each (N): sequences one behind the other, some of which begin alike and share those tokens.

    Tokens that share a beginning are a row (B, T) of what attention sees, each with its own ancestors.
    """

    def __init__(self, job, padded):
        parents = job["parents"]
        N = len(parents)
        positions, rows, places, ancestors, sizes = [0] * N, [0] * N, [0] * N, [()] * N, []
        for i, parent in enumerate(parents):
            if parent < 0:
                sizes.append(0)
                rows[i] = len(sizes) - 1
            else:
                positions[i], rows[i] = positions[parent] + 1, rows[parent]
            places[i] = sizes[rows[i]]
            sizes[rows[i]] += 1
            ancestors[i] = (*(ancestors[parent] if parent >= 0 else ()), places[i])
        B, T = len(sizes), max(sizes)
        at = torch.tensor([row * T + place for row, place in zip(rows, places)])
        self.B, self.T, self.count = B, T, N
        self.mask = torch.full((B, 1, T, T), float("-inf"))
        # Places that no token has look at themselves, so that their softmax is defined.
        self.mask[:, :, torch.arange(T), torch.arange(T)] = 0
        for i in range(N):
            self.mask[rows[i], 0, places[i], list(ancestors[i])] = 0
        tokens, targets, positions = torch.tensor(job["tokens"]), torch.tensor(job["targets"]), torch.tensor(positions)
        if padded or N == B * T:
            # Every layer runs over the padded rows.
            fill = lambda values, empty: torch.full((B * T,), empty).index_copy(0, at, values)
            self.tokens, self.targets, self.positions = fill(tokens, 0), fill(targets, -1), fill(positions, 0)
            self.spread = self.gather = None
        else:
            # Only attention sees padded rows: an index spreads tokens into them, another takes them back.
            self.tokens, self.targets, self.positions = tokens, targets, positions
            self.spread = torch.zeros(B * T, dtype=torch.long).index_copy(0, at, torch.arange(N))
            self.gather = at


class Model:
    def __init__(self, params, config):
        self.p = params
        self.C, self.H = config["n_embd"], config["num_attention_heads"]
        self.D = self.C // self.H
        self.eps = config["norm_eps"]
        angles = torch.outer(
            torch.arange(config["block_size"]).float(), config["rope_base"] ** (-torch.arange(0, self.D, 2).float() / self.D)
        )
        self.cos, self.sin = angles.cos()[:, None], angles.sin()[:, None]
        self.layers = {part: config[f"n_layers_in_{name}"] for part, name in
                       [("prelude", "prelude"), ("core_block", "recurrent_block"), ("coda", "coda")]}

    def norm(self, x, weight):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * weight

    def attention(self, x, name, batch, cos, sin):
        C, H, D = self.C, self.H, self.D
        qk, v = F.linear(x, self.p[f"{name}.Wqkv.weight"]).split([2 * C, C], -1)
        qk = qk.view(-1, 2 * H, D) + self.p[f"{name}.qk_bias"].view(2 * H, D)
        a, b = qk[..., 0::2], qk[..., 1::2]
        qk = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
        qkv = torch.cat([qk, v.view(-1, H, D)], 1)
        if batch.spread is not None:
            qkv = qkv[batch.spread]
        q, k, v = qkv.view(batch.B, batch.T, 3, H, D).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(D) + batch.mask
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(-1, C)
        if batch.gather is not None:
            mixed = mixed[batch.gather]
        return F.linear(mixed, self.p[f"{name}.proj.weight"])

    def block(self, x, name, batch, cos, sin):
        p = self.p
        y = self.norm(x + self.attention(self.norm(x, p[f"{name}.norm_1.weight"]), f"{name}.attn", batch, cos, sin), p[f"{name}.norm_2.weight"])
        gate, up = F.linear(self.norm(y, p[f"{name}.norm_3.weight"]), p[f"{name}.mlp.fc.weight"]).chunk(2, -1)
        return self.norm(y + F.linear(F.silu(gate) * up, p[f"{name}.mlp.proj.weight"]), p[f"{name}.norm_4.weight"])

    def stack(self, x, part, batch, cos, sin):
        for n in range(self.layers[part]):
            x = self.block(x, f"transformer.{part}.{n}", batch, cos, sin)
        return x

    def step(self, state, e, batch, cos, sin):
        x = F.linear(torch.cat([state, e], -1), self.p["transformer.adapter.weight"])
        return self.stack(x, "core_block", batch, cos, sin)

    def loss(self, batch, n, k, zeros=False):
        cos, sin = self.cos[batch.positions], self.sin[batch.positions]
        wte = self.p["transformer.wte.weight"]
        e = self.stack(F.embedding(batch.tokens, wte) * math.sqrt(self.C), "prelude", batch, cos, sin)
        state = torch.zeros_like(e) if zeros else torch.nn.init.trunc_normal_(torch.empty_like(e), std=math.sqrt(2 / 5), a=-3, b=3)
        with torch.no_grad():
            for _ in range(n):
                state = self.step(state, e, batch, cos, sin)
        for _ in range(k):
            state = self.step(state, e, batch, cos, sin)
        final = self.p["transformer.ln_f.weight"]
        x = self.norm(self.stack(self.norm(state, final), "coda", batch, cos, sin), final)
        logits = F.linear(x, self.p.get("lm_head.weight", wte))
        return F.cross_entropy(logits, batch.targets, ignore_index=-1)


def orthogonalize(x):
    tall = x.shape[0] > x.shape[1]
    y = x.T if tall else x
    y = y / (y.norm() + 1e-7)
    for _ in range(5):
        s = y @ y.T
        y = 3.4445 * y + (-4.775 * s + 2.0315 * s @ s) @ y
    return y.T if tall else y


class Optimizer:
    """AdamW for all, or Muon for the matrices of the blocks and AdamW for the rest."""

    def __init__(self, params, name, decay):
        matrices = [p for key, p in params.items() if p.dim() == 2 and "wte" not in key and "lm_head" not in key]
        others = [p for p in params.values() if not any(p is m for m in matrices)]
        self.muon = matrices if name == "muon" else []
        self.momentum = [torch.zeros_like(p) for p in self.muon]
        self.decay = decay
        self.adam = torch.optim.AdamW(
            [{"params": others, "weight_decay": 0.0}] + ([] if name == "muon" else [{"params": matrices, "weight_decay": decay}]),
            lr=1e-5, betas=(0.9, 0.95), eps=1e-8)

    @torch.no_grad()
    def step(self, rate=1e-5):
        self.adam.step()
        for p, m in zip(self.muon, self.momentum):
            m.mul_(0.95).add_(p.grad, alpha=0.05)
            move = orthogonalize(p.grad * 0.05 + m * 0.95)
            p.mul_(1 - rate * self.decay).sub_(move, alpha=rate * math.sqrt(max(1.0, p.shape[0] / p.shape[1])))


def gemm_rate(n=1024, seconds=1.0):
    """Billions of operations a second of a product of two n x n matrices."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    for _ in range(3):
        a @ b
    rates = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        started = time.perf_counter()
        a @ b
        rates.append(2 * n**3 / (time.perf_counter() - started) / 1e9)
    return sorted(rates)[len(rates) // 2]


def main():
    with open(sys.argv[1]) as file:
        job = json.load(file)
    torch.manual_seed(1)
    torch.set_num_threads(job["threads"])
    params = {name: value.requires_grad_() for name, value in read_safetensors(job["params"]).items()}
    model = Model(params, job["model"])
    gemm = gemm_rate()
    result = {"version": torch.__version__, "gemm": gemm, "layouts": {}}
    with torch.no_grad():
        result["loss"] = model.loss(Batch(job, padded=False), job["n"], job["k"], zeros=True).item()
    for name, padded in [("packed", False), ("padded", True)]:
        batch = Batch(job, padded)
        optimizer = Optimizer(params, job["optimizer"], job["decay"])

        def step():
            for p in params.values():
                p.grad = None
            model.loss(batch, job["n"], job["k"]).backward()
            torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
            optimizer.step()

        for _ in range(2):
            step()
        times = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < job["seconds"]:
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        result["layouts"][name] = batch.count / sorted(times)[len(times) // 2]
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


main()
