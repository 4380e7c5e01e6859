"""The drift detector: confidence histograms in, evidence out. Vectorised over the devices of one model; pure numpy, or
on request compiled by numba where it is installed, with the same decisions.

streams()                            which cells of the histogram are watched, and in which direction
reference_from_baseline(), ..._from_history()      what is normal, and how uncertain that is
Detector.update()                    one report of each of many devices -> score, warn, page, frozen, onset, effect
threshold()                          the one dial: false pages a week for the whole fleet
Peers                                what the other devices of a site and product saw in the same minutes
"""

from device_agent.detector.evalue import independence, phi_of_pairs, threshold, tilt, warn_threshold
from device_agent.detector.peers import Peers
from device_agent.detector.reference import (
    Reference,
    estimate_prevalence,
    reference_from_baseline,
    reference_from_history,
    weighted_cells,
)
from device_agent.detector.scoring import Detector
from device_agent.detector.streams import StreamSet, streams
from device_agent.detector.verdicts import Verdicts

__all__ = [
    "Detector",
    "Peers",
    "Reference",
    "StreamSet",
    "Verdicts",
    "estimate_prevalence",
    "independence",
    "phi_of_pairs",
    "reference_from_baseline",
    "reference_from_history",
    "streams",
    "threshold",
    "tilt",
    "warn_threshold",
    "weighted_cells",
]
