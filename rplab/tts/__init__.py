"""Japanese speech: the embedded HTS voice, and voices of the Style-Bert-VITS2 JP-Extra family.

Speaking (no torch): `engine` (the protocol), `openjtalk` (embedded), `onnx_engine` (trained voices) over `frontend`,
`g2p`, `dictionary`, `bert`, `runtime`, `session`, `voice_folder`. Making a voice: `corpus` -> `preprocess` -> `train` ->
`export_stage` (`aivmx` for other programs), with the network in `model/`; torch loads only in `model/` (but `hyper`),
`mel`, `losses`, `clips`, `trainer`, `train`, `checkpoint_io`, `export_onnx`, `export_stage` and `export_bert`.

Judging one: `evaluate` over `judges`.

To add a reading rule: `frontend` (how text is written) or `g2p` (how it is read), and a row in `tests/golden/frontend.jsonl`.
To add a voice engine: see `engine`.
"""
