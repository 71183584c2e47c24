"""Which models cannot be written as one graph for clips of any number and length, and why."""

from __future__ import annotations

from torch import nn

from avser.features.egemaps import EgemapsDescriptors
from avser.features.pitch import Pitch
from avser.models.systems.acrnn import AcrnnNetwork
from avser.models.systems.av_cnn_au import AvCnnAu
from avser.models.systems.blstm_rv_elm import BlstmRvElm
from avser.models.systems.coatt_mla import CoAttention
from avser.models.systems.dcnn_blstmwa import DcnnBlstmAttention
from avser.models.systems.eca_cnn6 import EcaCnn6
from avser.models.systems.macnn_area import MacnnArea

SEGMENTS = "it cuts each clip into segments, and how many there are depends on what the masks hold, not on any shape"
PITCH = (
    "it reads the pitch, which is followed from frame to frame by a loop as long as the clip; where a system has the "
    "choice, model.options.audio_features=logmel3 reads none"
)
OBSTACLES: dict[type[nn.Module], str] = {
    EgemapsDescriptors: "it reads eGeMAPS, which openSMILE computes outside PyTorch",
    Pitch: PITCH,
    AcrnnNetwork: SEGMENTS,
    AvCnnAu: SEGMENTS,
    BlstmRvElm: "it leaves out the frames that are not voiced, and how many remain depends on what they hold",
    CoAttention: SEGMENTS,
    DcnnBlstmAttention: SEGMENTS,
    EcaCnn6: SEGMENTS,
    MacnnArea: SEGMENTS,
}


def find_obstacle(network: nn.Module) -> str | None:
    """Why no one graph holds for this network on clips of any number and length; None where nothing is known."""
    parts = list(network.modules())
    return next((why for kind, why in OBSTACLES.items() if any(isinstance(part, kind) for part in parts)), None)
