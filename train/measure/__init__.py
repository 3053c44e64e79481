"""The papers' measures: reconstruction and animation, L1, AKD, MKR, AED and FID, and what exact data allow beside them."""
