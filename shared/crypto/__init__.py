"""Cryptography of SecMTP: keys, certificates, seals, shares, tokens and the ciphertext."""
