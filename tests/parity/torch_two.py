"""What transformers asks of torch 2, for Debian 12's torch 1.13: of ModernBERT a decorator that is not used by what the
tests call, and norms without a bias, whose arithmetic is the same; of its trainer, which sentence-transformers imports, a
class by its new name. To be imported before these are."""
import torch
import torch.optim.lr_scheduler as schedulers

if not hasattr(torch, "compile"):

    class LayerNorm(torch.nn.LayerNorm):
        def __init__(self, shape, eps=1e-5, elementwise_affine=True, bias=True):
            super().__init__(shape, eps=eps, elementwise_affine=elementwise_affine)
            if not bias:
                self.bias = None

    torch.compile = lambda *arguments, **options: arguments[0] if arguments else (lambda function: function)
    torch.nn.LayerNorm = LayerNorm
    schedulers.LRScheduler = schedulers._LRScheduler
