// Seal encrypts the body under a password with golang.org/x/crypto: Argon2 for the key, XChaCha20-Poly1305 under a random nonce; and hashes it.
package main

import (
	"crypto/rand"
	"encoding/hex"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pauloappbr/gojinn/guests/go/internal/contract"
)

func main() { contract.Answer("seal", answer) }

func answer(req *contract.Request) (*contract.Response, error) {
	body, err := req.Bytes()
	if err != nil {
		return nil, err
	}
	salt, nonce := make([]byte, 16), make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(salt)
	rand.Read(nonce)
	// 1 MiB is little for a password that matters; it is one second of wasmi otherwise.
	key := argon2.IDKey([]byte("correct horse"), salt, 1, 1<<10, 1, chacha20poly1305.KeySize)
	cipher, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	sealed := cipher.Seal(nil, nonce, body, []byte(req.URI))
	opened, err := cipher.Open(nil, nonce, sealed, []byte(req.URI))
	if err != nil {
		return nil, err
	}
	digest := blake2b.Sum256(opened)
	return contract.JSON(200, map[string]any{
		"salt":    salt,
		"nonce":   nonce,
		"sealed":  sealed,
		"blake2b": hex.EncodeToString(digest[:]),
	})
}
