"""Character Card V1/V2/V3 files in and out: untrusted input, checked before anything of it is used.

`container` reads and writes JSON, PNG and .charx; `gate` refuses what does not belong into this project; `exchange` maps
cards onto `rplab.character.Card` and back. To add a field: read it in `exchange.import_card`, write it in `export_card`,
and extend the round-trip test.
"""
