"""Who a peer is: one secp256k1 key that is libp2p id, record signer and Ethereum account."""
