"""Students and bundles on the Hugging Face Hub, both ways, without torch.

It imports nothing by itself: a folder of this machine is opened without the Hub's client.
"""

from __future__ import annotations
