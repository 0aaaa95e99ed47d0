"""Export models to the formats of other programs: ONNX, and darktable's packages."""
