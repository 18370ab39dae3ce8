"""What users hold in their hands: pool, proxy, settings. It chooses backends and codecs; core only uses them."""
