"""The published systems, one file each, by the name of their configuration."""

from __future__ import annotations

from avser.models.system import System
from avser.models.systems.acrnn import Acrnn
from avser.models.systems.acrnn_augag import AcrnnAugag
from avser.models.systems.acrnn_bagging import AcrnnBagging
from avser.models.systems.acrnn_redag import AcrnnRedag
from avser.models.systems.att_fcn import AttentionFcn
from avser.models.systems.attentive_cnn import AttentiveCnn
from avser.models.systems.av_cnn_au import AvCnnAu
from avser.models.systems.blstm_rv_elm import BlstmRvElm
from avser.models.systems.byun_feat_rnn import ByunFeatRnn
from avser.models.systems.cnn_bigru_levels import CnnBigruLevels
from avser.models.systems.coatt_mla import CoAttention
from avser.models.systems.dcnn_blstmwa import DcnnBlstmAttention
from avser.models.systems.dnn_elm import DnnElm
from avser.models.systems.eca_cnn6 import EcaCnn6
from avser.models.systems.focal_resnet import FocalResnet
from avser.models.systems.light_sernet import LightSernet
from avser.models.systems.macnn_area import MacnnArea
from avser.models.systems.pcrn import Pcrn
from avser.models.systems.roi_att_lstm import RoiAttLstm
from avser.models.systems.roi_lstm import RoiLstm
from avser.models.systems.spec_conv_lstm import SpecConvLstm

SYSTEMS: dict[str, type[System]] = {
    "acrnn": Acrnn,
    "acrnn_augag": AcrnnAugag,
    "acrnn_bagging": AcrnnBagging,
    "acrnn_redag": AcrnnRedag,
    "attentive_cnn": AttentiveCnn,
    "pcrn": Pcrn,
    "spec_conv_lstm": SpecConvLstm,
    "blstm_rv_elm": BlstmRvElm,
    "dnn_elm": DnnElm,
    "eca_cnn6": EcaCnn6,
    "focal_resnet": FocalResnet,
    "light_sernet": LightSernet,
    "macnn_area": MacnnArea,
    "byun_feat_rnn": ByunFeatRnn,
    "att_fcn": AttentionFcn,
    "dcnn_blstmwa": DcnnBlstmAttention,
    "coatt_mla": CoAttention,
    "av_cnn_au": AvCnnAu,
    "cnn_bigru_levels": CnnBigruLevels,
    "roi_att_lstm": RoiAttLstm,
    "roi_lstm": RoiLstm,
}
