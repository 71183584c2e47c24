"""Under which terms the recordings of each corpus are given, as far as its owner states them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """Terms of a corpus.

    Attributes:
        corpus: its name, and whose it is.
        terms: in words; "unknown" where nobody has looked them up.
        link: where its owner states them; empty where there is no such place.
        is_commercial: whether the terms allow commercial use; None where they do not say so in general.
    """

    corpus: str
    terms: str
    link: str
    is_commercial: bool | None = None


SPLICED = "_splice"  # ends the name of a corpus whose takes were joined; its terms are those of its source
# Corpus, as manifests name it -> its terms.
LICENCES: dict[str, Licence] = {
    "cremad": Licence(
        "CREMA-D (Cao et al. 2014)",
        "ODbL 1.0; contents DbCL 1.0",
        "https://github.com/CheyneyComputerScience/CREMA-D",
        True,
    ),
    "ravdess": Licence(
        "RAVDESS (Livingstone and Russo 2018)", "CC BY-NC-SA 4.0", "https://zenodo.org/records/1188976", False
    ),
    "emodb": Licence(
        "EMO-DB (Burkhardt et al. 2005)",
        "free to download; its page states the terms",
        "http://emodb.bilderbar.info/",
    ),
    "savee": Licence(
        "SAVEE (Haq and Jackson 2009)",
        "research only, no redistribution",
        "http://kahlan.eps.surrey.ac.uk/savee/",
        False,
    ),
    "tess": Licence(
        "TESS (Pichora-Fuller and Dupuis 2010)", "CC BY-NC-ND 4.0", "https://doi.org/10.5683/SP2/E8H2MF", False
    ),
    "enterface05": Licence(
        "eNTERFACE'05 (Martin et al. 2006)",
        "free for research; its page states the terms",
        "http://www.enterface.net/enterface05/",
    ),
    "iemocap": Licence("IEMOCAP (Busso et al. 2008)", "the owner's agreement", "https://sail.usc.edu/iemocap/"),
    "meld": Licence(
        "MELD (Poria et al. 2019)",
        "its repository: GPL-3.0; the recordings are a broadcaster's",
        "https://affective-meld.github.io/",
    ),
    "msp_improv": Licence("MSP-IMPROV (Busso et al. 2017)", "the owner's agreement", ""),
    "synthetic": Licence("rendered clips of avser", "none needed", "", True),
}


def licence_of(corpus: str) -> Licence:
    """The terms of a corpus by the name that its manifest gives it; "unknown" for one that is not in the list."""
    return LICENCES.get(corpus.removesuffix(SPLICED), Licence(corpus, "unknown", ""))
