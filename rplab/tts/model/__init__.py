"""The voice network: VITS with a transformer flow, BERT and style conditioning (the JP-Extra layout).

Written from the papers VITS (arXiv 2106.06103), VITS2 (2307.16430), HiFi-GAN (2010.05646), neural spline flows
(1906.04032) and relative attention (1803.02155), and the facts of spec/tts.md section B. Attribute names are chosen so
that state-dict keys and shapes equal those of official JP-Extra checkpoints; that is the only reason for names such as
`convs_sep` or `emb_rel_k`.

Shapes in comments: B batch, T text (phones with blanks), S spectrogram frames, C channels, H heads.
"""
