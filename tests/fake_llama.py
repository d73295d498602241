"""A stand-in for llama_cpp: a machine with as many GPUs as a test likes.

It has what nczip calls of the library, notes with which arguments, and "evaluates" the byte models
of small_models: logits hang on a lane's last token, and on what a test says that GPUs differ in.
"""

import ctypes
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from small_models import VOCABULARY

LAYERS = 2


@dataclass
class FakeContext:
    model: SimpleNamespace
    parameters: SimpleNamespace
    logits: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


class FakeLlama:
    """The module. ``kinds`` has the kind of each GPU: those of one kind compute the same."""

    LLAMA_SPLIT_MODE_NONE = 0
    LLAMA_FLASH_ATTN_TYPE_DISABLED = 0

    def __init__(self, *kinds):
        self.kinds = kinds
        self.models = []  # as they were loaded
        self.contexts = []  # as they were opened

    def llama_log_set(self, callback, data):
        pass

    def llama_supports_gpu_offload(self):
        return bool(self.kinds)

    def llama_model_default_params(self):
        return SimpleNamespace(n_gpu_layers=-1, split_mode=1, main_gpu=0)

    def llama_model_load_from_file(self, path, parameters):
        gpu = parameters.main_gpu if parameters.n_gpu_layers else None
        if gpu is not None and gpu >= len(self.kinds):
            return None
        layers = min(parameters.n_gpu_layers, LAYERS + 1)
        seed = 0 if gpu is None else 100 * self.kinds[gpu] + layers
        table = np.random.default_rng(seed).normal(0, 2, (VOCABULARY, VOCABULARY))
        self.models.append(parameters)
        return SimpleNamespace(parameters=parameters, table=table.astype(np.float32))

    def llama_model_free(self, model):
        pass

    def llama_model_has_encoder(self, model):
        return False

    def llama_model_n_layer(self, model):
        return LAYERS

    def llama_model_n_head(self, model):
        return 4

    def llama_model_n_head_kv(self, model):
        return 2

    def llama_model_n_embd(self, model):
        return 96

    def llama_model_get_vocab(self, model):
        return model

    def llama_vocab_n_tokens(self, vocab):
        return VOCABULARY

    def llama_vocab_get_attr(self, vocab, token):
        return 0

    def llama_vocab_bos(self, vocab):
        return 0

    def llama_vocab_eos(self, vocab):
        return 0

    def llama_token_to_piece(self, vocab, token, buffer, size, lstrip, special):
        piece = bytes([token]) if token < 256 else b"ab"
        buffer[: len(piece)] = piece
        return len(piece)

    def llama_tokenize(self, vocab, text, size, tokens, most, add_special, parse_special):
        tokens[:size] = list(text)
        return size

    def llama_context_default_params(self):
        return SimpleNamespace()

    def llama_init_from_model(self, model, parameters):
        self.contexts.append(FakeContext(model, parameters))
        return self.contexts[-1]

    def llama_get_memory(self, context):
        return context

    def llama_memory_can_shift(self, memory):
        return True

    def llama_memory_seq_rm(self, memory, lane, first, last):
        return True

    def llama_memory_seq_add(self, memory, lane, first, last, move):
        pass

    def llama_batch_init(self, size, embedding, lanes):
        return SimpleNamespace(
            n_tokens=0,
            token=[0] * size,
            pos=[0] * size,
            n_seq_id=[0] * size,
            seq_id=[[0] for _ in range(size)],
            logits=[0] * size,
        )

    def llama_decode(self, context, batch):
        wanted = [batch.token[i] for i in range(batch.n_tokens) if batch.logits[i]]
        context.logits = np.ascontiguousarray(context.model.table[wanted])
        return 0

    def llama_get_logits(self, context):
        return context.logits.ctypes.data_as(ctypes.POINTER(ctypes.c_float))

    def llama_batch_free(self, batch):
        pass

    def llama_free(self, context):
        pass
