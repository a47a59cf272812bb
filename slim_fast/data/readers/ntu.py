"""Facts about NTU RGB+D 60 and 120: file names, benchmark splits, action names."""

import re
from collections.abc import Mapping
from typing import NamedTuple

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})(?!\d)", re.IGNORECASE | re.ASCII)
EXAMPLE = "S001C002P003R002A013"
FOUR_PARTS = (
    "[-_ ]*".join(rf"{part}[-_ ]?\d+" for part in "SCPRA" if part != missing) for missing in "SCPRA"
)
NEARLY = re.compile("|".join(FOUR_PARTS), re.IGNORECASE)

TRAIN_SUBJECTS_60 = frozenset(
    (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
)
TRAIN_SUBJECTS_120 = TRAIN_SUBJECTS_60.union(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86),
    (89, 91, 92, 93, 94, 95, 97, 98, 100, 103),
)

ACTIONS = tuple(
    """\
drink water|eat meal|brush teeth|brush hair|drop|pick up|throw|sit down|stand up|clapping|reading|
writing|tear up paper|put on jacket|take off jacket|put on a shoe|take off a shoe|put on glasses|
take off glasses|put on a hat/cap|take off a hat/cap|cheer up|hand waving|kicking something|
reach into pocket|hopping|jump up|phone call|play with phone/tablet|type on a keyboard|
point to something|taking a selfie|check time (from watch)|rub two hands|nod head/bow|shake head|
wipe face|salute|put palms together|cross hands in front|sneeze/cough|staggering|falling down|
headache|chest pain|back pain|neck pain|nausea/vomiting|fan self|punch/slap|kicking|pushing|
pat on back|point finger|hugging|giving object|touch pocket|shaking hands|walking towards|
walking apart|put on headphone|take off headphone|shoot at basket|bounce ball|tennis bat swing|
juggle table tennis ball|hush|flick hair|thumb up|thumb down|make OK sign|make victory sign|
staple book|counting money|cutting nails|cutting paper|snap fingers|open bottle|sniff/smell|
squat down|toss a coin|fold paper|ball up paper|play magic cube|apply cream on face|
apply cream on hand|put on bag|take off bag|put object into bag|take object out of bag|open a box|
move heavy objects|shake fist|throw up cap/hat|capitulate|cross arms|arm circles|arm swings|
run on the spot|butt kicks|cross toe touch|side kick|yawn|stretch oneself|blow nose|
hit with object|wield knife|knock over|grab stuff|shoot with gun|step on foot|high-five|
cheers and drink|carry object|take a photo|follow|whisper|exchange things|support somebody|
rock-paper-scissors
""".replace("\n", "").split("|")
)


class NtuName(NamedTuple):
    """The numbers in a name like S001C002P003R002A013, all counted from 1."""

    setup: int
    camera: int
    subject: int
    repetition: int
    action: int

    @property
    def splits(self) -> Mapping[str, str]:
        """Split name -> "train" or "test"; the splits of NTU-60 only for its actions, 1 to 60.

        X-Sub trains on the listed performers, X-View on cameras 2 and 3, X-Set on even setups (Liu
        et al. 2019).
        """
        train = {}
        if self.action <= 60:
            train["ntu60-xsub"] = self.subject in TRAIN_SUBJECTS_60
            train["ntu60-xview"] = self.camera in (2, 3)
        train["ntu120-xsub"] = self.subject in TRAIN_SUBJECTS_120
        train["ntu120-xset"] = self.setup % 2 == 0
        return {name: "train" if side else "test" for name, side in train.items()}


def parse_ntu_name(name: str) -> NtuName | None:
    """The numbers in an NTU file name, in capitals or not; None for other names."""
    match = NAME.search(name)
    return NtuName(*map(int, match.groups())) if match else None


def resembles_ntu_name(name: str) -> bool:
    """Whether a name has four parts of an NTU name: S1C2P3R2A13, s001_p003_r002_a013."""
    return NEARLY.search(name) is not None


def find_action_names(data_set: str, classes: int) -> tuple[str, ...]:
    """The NTU action names for a data set (a file or folder name) of 60 or 120 classes, else ()."""
    return ACTIONS[:classes] if "ntu" in data_set.lower() and classes in (60, 120) else ()
