"""Eighty sentences around a class name; their mean vector stands for the class (thesis section 1.7.2.2).

CLIP averages over eighty sentences as well; these are our own. The first three say the least, so that a few are enough
for a quick look; what follows varies the medium, the light, the distance, the state of the thing and of the picture.
"""

from __future__ import annotations

__all__ = ["TEMPLATES"]

TEMPLATES: tuple[str, ...] = (
    # plain
    "a photo of a {}.",
    "a picture of a {}.",
    "an image of a {}.",
    "a snapshot of a {}.",
    "here is a {}.",
    "this is a {}.",
    "there is a {} here.",
    "we see a {}.",
    "you can see a {} in this photo.",
    "it shows a {}.",
    # how many, whose, which
    "one {}.",
    "a single {} and nothing else.",
    "several {}s.",
    "a group of {}s.",
    "my {}.",
    "somebody's {}.",
    "the {} that we met today.",
    "another {}.",
    "a typical {}.",
    "an unusual {}.",
    # near and far, whole and in part
    "a {} from close by.",
    "a {} far away.",
    "a detail of a {}.",
    "a {} that fills the frame.",
    "a {} at the edge of the picture.",
    "half of a {}.",
    "a {} seen from above.",
    "a {} seen from below.",
    "a {} from the side.",
    "a {} from behind.",
    "a {} behind something else.",
    "a {} in front of a plain wall.",
    # place and company
    "a {} outdoors.",
    "a {} indoors.",
    "a {} in its usual place.",
    "a {} where nobody would look for one.",
    "a {} in a crowded scene.",
    "a {} on a table.",
    "a {} on the ground.",
    "a {} next to a person.",
    # light and weather
    "a {} in bright sunshine.",
    "a {} in the shade.",
    "a {} at night.",
    "a {} in fog.",
    "a {} in the evening light.",
    "a {} against the light.",
    # size, age, state
    "a big {}.",
    "a tiny {}.",
    "an old {}.",
    "a brand new {}.",
    "a clean {}.",
    "a muddy {}.",
    "a beautiful {}.",
    "a plain {}.",
    "a strange {}.",
    "a colorful {}.",
    # quality of the picture
    "a sharp photograph of a {}.",
    "a blurry photograph of a {}.",
    "a grainy photograph of a {}.",
    "an overexposed photograph of a {}.",
    "a photograph of a {}, much too dark.",
    "a black and white photograph of a {}.",
    "a faded print of a {}.",
    "a heavily compressed image of a {}.",
    "a {} on an old phone's camera.",
    "a professional studio shot of a {}.",
    # other media
    "a pencil drawing of a {}.",
    "an oil painting of a {}.",
    "a watercolor of a {}.",
    "a child's drawing of a {}.",
    "a comic strip with a {}.",
    "a statue of a {}.",
    "a {} made of wood.",
    "a toy {}.",
    "a paper model of a {}.",
    "a knitted {}.",
    "a computer rendering of a {}.",
    "a {} in a video game.",
    "a mural of a {}.",
    "a stamp with a {} on it.",
)
