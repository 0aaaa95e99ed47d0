"""The paper as pure tensor functions: no files, no printing, no global random state.

AMSNet: "Asymmetric Mask Scheme for Self-Supervised Real Image Denoising", ECCV 2024,
arXiv 2407.06514. Throughout, tensors are (B, C, H, W) float32 with values in [0, 1],
and a mask is True where a pixel is masked.
"""
