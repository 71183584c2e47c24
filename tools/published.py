"""What papers report for the systems that are rebuilt here: one number a line, and how far it can be trusted.

A number without a remark on its origin was read in the paper's abstract or in a record of it. "Remembered, not
verified" means that no source of it was at hand; None means that none is known at all.
"""

from __future__ import annotations

from avser.experiments.leaderboard.board import Published

REMEMBERED = "remembered, not verified"
MATRIX = "from the confusion matrices that the authors' code publishes"
FOCAL, PLAIN = f"focal loss; {MATRIX}", f"cross-entropy; {MATRIX}"
CHOSEN_ON_TEST = "the released code chooses the epoch on the test fold"
IEMOCAP = "IEMOCAP, 4 classes"
IMPROVISED = "IEMOCAP improvised, 4 classes"
UNKNOWN = "protocol not known"

DESAI = "Desai, Cao and Shah, arXiv:2203.03428"
ZHANG_FCN = "Zhang et al. 2018, arXiv:1806.01506"
LEE = "Lee and Tashev, Interspeech 2015"
ZHU = "Zhu et al., IJCAI 2017"
QAZI = "Qazi and Kaushik, IJEAT 9(5), 2020, doi:10.35940/ijeat.E1027.069520"
JIANG = "Jiang et al., IEEE Access 7:90368, 2019"
CHEN = "Chen et al. 2018, 3-D convolutional recurrent networks with attention"
AI = "Ai et al., IEEE Access 8:199909, 2020"
BYUN = "Byun and Lee, Applied Sciences 11(4):1890, 2021"
ZHANG_DCNN = "Zhang et al., Frontiers in Physiology 12:643202, 2021"
NEUMANN = "Neumann and Vu, Interspeech 2017, arXiv:1706.00612"
AFTAB = "Aftab et al., ICASSP 2022, arXiv:2110.03435"
XU = "Xu et al., ICASSP 2021, arXiv:2102.01813"
TRIPATHI = "Tripathi et al., arXiv:1906.05682"
KIM = "Kim and Kwon, arXiv:2409.04007"
ZOU = "Zou et al., ICASSP 2022, arXiv:2203.15326"
RISTEA = "Ristea, Dutu and Radoi, arXiv:2003.00351"

_NO_SPEAKERS = (
    "the released segmentation loses the speakers, so that its folds by speaker are random ones (that these numbers "
    "were made so is likely, not certain); " + CHOSEN_ON_TEST
)
_CHEN_FOLDS = "10 folds by speaker, validation apart, 5 seeds"
_RANDOM_80_20 = "random 80/20 splits, 5 seeds, in the released code"
_NOT_ALL = (
    "the released code takes excitement alone for happiness, leaves out utterances up to 2 s, and takes the best WA "
    "and the best UAR each from its own epoch"
)
_STRONGER = "abstract: an improvement over the best of its time by"
_NOT_IN_ABSTRACT = "not in the abstract, and its source is not noted"

PUBLISHED: dict[str, list[Published]] = {
    "roi_att_lstm": [
        Published(DESAI, "not stated in the abstract", UNKNOWN, "accuracy", None, "abstract: better than the LSTM")
    ],
    "roi_lstm": [Published(DESAI, "not stated in the abstract", UNKNOWN, "accuracy", None, "the paper's baseline")],
    "att_fcn": [
        Published(ZHANG_FCN, IEMOCAP, UNKNOWN, "WA", 70.4),
        Published(ZHANG_FCN, IEMOCAP, UNKNOWN, "UAR", 63.9),
    ],
    "blstm_rv_elm": [
        Published(LEE, IMPROVISED, f"leave one session out ({REMEMBERED})", "WA", 62.85, REMEMBERED),
        Published(LEE, IMPROVISED, f"leave one session out ({REMEMBERED})", "UAR", 63.89, REMEMBERED),
    ],
    "dnn_elm": [
        Published(LEE, IMPROVISED, UNKNOWN, "WA", None, "abstract: the paper's own system is up to 12 % better"),
        Published(CHEN, IMPROVISED, _CHEN_FOLDS, "UAR", 51.24, "a baseline of that paper; read in it"),
        Published(CHEN, "EMO-DB, 7 classes", _CHEN_FOLDS, "UAR", 71.56, "a baseline of that paper; read in it"),
    ],
    "cnn_bigru_levels": [
        Published(ZHU, "FI, images of 8 classes", "80/5/15 % of the images", "accuracy", 73.03, REMEMBERED)
    ],
    "spec_conv_lstm": [Published(QAZI, "SAVEE, 7 classes", UNKNOWN, "accuracy", 94.26)],
    "pcrn": [Published(JIANG, "four public corpora", UNKNOWN, "UAR", None)],
    "acrnn": [
        Published(CHEN, IMPROVISED, _CHEN_FOLDS, "UAR", 64.74, "sd 5.44; read in the paper"),
        Published(CHEN, "EMO-DB, 7 classes", _CHEN_FOLDS, "UAR", 82.82, "sd 4.99; read in the paper"),
    ],
    "acrnn_bagging": [Published(AI, "IEMOCAP and EMO-DB", UNKNOWN, "UAR", None, "the plain ensemble beside its own")],
    "acrnn_redag": [Published(AI, "IEMOCAP and EMO-DB", UNKNOWN, "UAR", None)],
    "acrnn_augag": [Published(AI, "IEMOCAP and EMO-DB", UNKNOWN, "UAR", None)],
    "byun_feat_rnn": [Published(BYUN, "a Korean corpus of the authors", UNKNOWN, "accuracy", None)],
    "dcnn_blstmwa": [
        Published(ZHANG_DCNN, "EMO-DB, 7 classes", f"leave one speaker out ({REMEMBERED})", "UAR", 87.86),
        Published(ZHANG_DCNN, IEMOCAP, f"leave one speaker out ({REMEMBERED})", "UAR", 68.50),
    ],
    "attentive_cnn": [
        Published(NEUMANN, IEMOCAP, f"leave one session out ({REMEMBERED})", "accuracy", 56.10, "from a citing source"),
        Published(NEUMANN, IMPROVISED, f"leave one session out ({REMEMBERED})", "accuracy", 62.11, REMEMBERED),
    ],
    "light_sernet": [
        Published(AFTAB, f"{IEMOCAP}, 7 s", _NO_SPEAKERS, "WA", 70.23, FOCAL),
        Published(AFTAB, f"{IEMOCAP}, 7 s", _NO_SPEAKERS, "UAR", 70.76, FOCAL),
        Published(AFTAB, f"{IMPROVISED}, 7 s", _NO_SPEAKERS, "WA", 79.87, FOCAL),
        Published(AFTAB, f"{IMPROVISED}, 7 s", _NO_SPEAKERS, "UAR", 70.78, FOCAL),
        Published(AFTAB, "EMO-DB, 7 classes", _NO_SPEAKERS, "WA", 94.21, PLAIN),
        Published(AFTAB, "EMO-DB, 7 classes", _NO_SPEAKERS, "UAR", 94.15, PLAIN),
    ],
    "macnn_area": [
        Published(XU, IMPROVISED, f"{_RANDOM_80_20}; {CHOSEN_ON_TEST}", "WA", 79.34, _NOT_ALL),
        Published(XU, IMPROVISED, f"{_RANDOM_80_20}; {CHOSEN_ON_TEST}", "UAR", 77.54, _NOT_ALL),
    ],
    "focal_resnet": [
        Published(TRIPATHI, IMPROVISED, UNKNOWN, "WA", None, f"{_STRONGER} 3.4 %"),
        Published(TRIPATHI, IMPROVISED, UNKNOWN, "UAR", None, f"{_STRONGER} 2.8 %"),
    ],
    "eca_cnn6": [
        Published(KIM, IEMOCAP, UNKNOWN, "UAR", 80.28, "trained on spectrograms of several windows"),
        Published(KIM, IEMOCAP, UNKNOWN, "WA", 80.46, "trained on spectrograms of several windows"),
        Published(KIM, IEMOCAP, UNKNOWN, "UAR", 79.37, "of one window"),
        Published(KIM, IEMOCAP, UNKNOWN, "WA", 79.68, "of one window"),
    ],
    "coatt_mla": [
        Published(ZOU, "IEMOCAP, 5531 clips, 4 classes", "leave one session out", "WA", 69.80, _NOT_IN_ABSTRACT),
        Published(ZOU, "IEMOCAP, 5531 clips, 4 classes", "leave one session out", "UAR", 71.05, _NOT_IN_ABSTRACT),
        Published(
            *(ZOU, "IEMOCAP, 5531 clips, 4 classes", "leave one speaker out", "WA", 71.64),
            f"the released code validates on the test fold; {_NOT_IN_ABSTRACT}",
        ),
        Published(
            *(ZOU, "IEMOCAP, 5531 clips, 4 classes", "leave one speaker out", "UAR", 72.70),
            f"the released code validates on the test fold; {_NOT_IN_ABSTRACT}",
        ),
    ],
    "av_cnn_au": [Published(RISTEA, f"CREMA-D ({REMEMBERED})", UNKNOWN, "accuracy", 69.42, REMEMBERED)],
}
