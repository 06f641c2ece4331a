"""Fully sharded data parallelism (FSDP, Zhao et al. 2023) for models whose optimiser state does not fit one device.

The blocks that hold nearly all parameters are sharded one by one, so what else a model has (gains, codebooks, the
decoder's last convolution, at which the adaptive weight is measured) stays whole on every rank.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm

from glc_train.layers import AdditiveFFN, DepthConv, GatedDepthConv, GatedFFN, SpatialAttention, Up2
from glc_train.training.distributed import all_sum

_BLOCKS = ("ResBlock", "_Layer")  # of the auto-encoder and of the code predictors
_LAYERS = (AdditiveFFN, DepthConv, GatedDepthConv, GatedFFN, SpatialAttention, Up2)


class Sharding(ModelParallelStrategy):
    """Shards parameters, gradients and optimiser state over all ranks; checkpoints are whole files all the same."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        """Makes the mesh of all ranks; by itself the strategy would shard over the ranks of one machine only."""
        self._data_parallel_size = self.num_processes * self.num_nodes
        super().setup_environment()


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shards the blocks of `module` over `mesh`, in place."""
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # sharding knows no channels-last weights
    for block in blocks(module):
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks of `module` that hold nearly all of its parameters."""
    return [each for each in module.modules() if isinstance(each, _LAYERS) or type(each).__name__ in _BLOCKS]


def is_sharded(parameter: Tensor) -> bool:
    """Whether a parameter is spread over the ranks."""
    return isinstance(parameter, DTensor)


def local(x: Tensor) -> Tensor:
    """This rank's part of x; x itself if it is whole."""
    return x.to_local() if isinstance(x, DTensor) else x


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The whole state of `module`; with sharded parameters every rank has to call this."""
    state = module.state_dict()
    return {name: x.full_tensor() if isinstance(x, DTensor) else x for name, x in state.items()}


def parameter_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Parameters in groups for an optimiser, each either all sharded or all whole."""
    groups: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(is_sharded(parameter), []).append(parameter)
    return [{"params": group} for group in groups.values()]


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Norm of all gradients together, float32 scalar; of sharded ones every rank has its part."""
    sharded = [local(g) for g in gradients if is_sharded(g)]
    norm: Tensor = get_total_norm([g for g in gradients if not is_sharded(g)]).float()
    if sharded:
        norm = (norm.square() + all_sum(get_total_norm(sharded).float().square())).sqrt()
    return norm
