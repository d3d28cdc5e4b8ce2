"""What ModernBERT in transformers asks of torch 2, for Debian 12's torch 1.13: a decorator that is not used by what the
tests call, and norms without a bias, whose arithmetic is the same. To be imported before the model's class is."""
import torch

if not hasattr(torch, "compile"):

    class LayerNorm(torch.nn.LayerNorm):
        def __init__(self, shape, eps=1e-5, elementwise_affine=True, bias=True):
            super().__init__(shape, eps=eps, elementwise_affine=elementwise_affine)
            if not bias:
                self.bias = None

    torch.compile = lambda *arguments, **options: arguments[0] if arguments else (lambda function: function)
    torch.nn.LayerNorm = LayerNorm
