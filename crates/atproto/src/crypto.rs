//! Account keys and signatures: ECDSA over sha-256, on the curves P-256 and secp256k1.
//!
//! Signatures are 64 bytes, r and s big endian. A signature whose s lies in the upper half of the group order is
//! refused on both curves: it would be a second valid form of the same signature.
//!
//! The signature is most of the work of verifying a commit, so checking is done by the fastest libraries there are for
//! each curve: libsecp256k1 and ring (docs/benchmarks.md). Signing, which only the synthetic network does, and reading
//! compressed points of P-256 are left to the pure ones.

use std::{fmt, sync::LazyLock};

use p256::ecdsa::signature::hazmat::PrehashSigner;
use secp256k1::{Message, Secp256k1, VerifyOnly};
use sha2::{Digest, Sha256};

use crate::multibase;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

const DID_KEY_PREFIX: &str = "did:key:";
/// The multicodec numbers 0x1200 and 0xe7 as varints.
const P256_CODEC: [u8; 2] = [0x80, 0x24];
const K256_CODEC: [u8; 2] = [0xe7, 0x01];
const COMPRESSED_BYTES: usize = 33;

/// Half of the group orders, rounded down: the greatest s that is low.
const P256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];
const K256_HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x5d, 0x57, 0x6e,
    0x73, 0x57, 0xa4, 0x50, 0x1d, 0xdf, 0xe9, 0x2f, 0x46, 0x68, 0x1b, 0x20, 0xa0,
];

/// The two curves of atproto.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256, also called secp256r1.
    P256,
    /// secp256k1.
    K256,
}

/// Why a key could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the text form that was asked for.
    #[error("key is not in did:key or multibase form")]
    Text,
    /// A curve that atproto does not use, or a verification method of unknown type.
    #[error("key of an unsupported kind")]
    Unsupported,
    /// The bytes are no point of the curve.
    #[error("key is not a point of its curve")]
    Point,
}

/// Why a signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not 64 bytes; DER ends here too.
    #[error("signature is not 64 bytes")]
    Length,
    /// r or s is zero or not below the group order.
    #[error("signature is out of range")]
    Range,
    /// s lies in the upper half.
    #[error("signature is not low-S")]
    HighS,
    /// Another key made it, or it is of another message.
    #[error("signature does not match")]
    Mismatch,
}

/// Bytes of a point of P-256 that is not compressed.
const UNCOMPRESSED_BYTES: usize = 65;

/// What checking on secp256k1 needs beside key and signature; it holds nothing that changes.
static K256: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A public key, decompressed. Cloning copies less than a hundred bytes; making one takes some microseconds, so callers
/// keep those of active accounts.
#[derive(Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// On P-256: the point, not compressed.
    P256([u8; UNCOMPRESSED_BYTES]),
    /// On secp256k1.
    K256(secp256k1::PublicKey),
}

impl VerifyingKey {
    /// Reads `did:key:z…`.
    pub fn from_did_key(text: &str) -> Result<VerifyingKey, KeyError> {
        let multikey = text.strip_prefix(DID_KEY_PREFIX).ok_or(KeyError::Text)?;
        if !multikey.starts_with('z') {
            return Err(KeyError::Text);
        }
        VerifyingKey::from_multikey(multikey)
    }

    /// Reads a `Multikey`: multibase text of the curve's multicodec and the compressed point.
    pub fn from_multikey(text: &str) -> Result<VerifyingKey, KeyError> {
        let bytes = multibase::decode(text).ok_or(KeyError::Text)?;
        let (codec, point) = bytes.split_first_chunk::<2>().ok_or(KeyError::Text)?;
        let curve = match *codec {
            P256_CODEC => Curve::P256,
            K256_CODEC => Curve::K256,
            _ => return Err(KeyError::Unsupported),
        };
        if point.len() != COMPRESSED_BYTES {
            return Err(KeyError::Point);
        }
        VerifyingKey::from_point(curve, point)
    }

    /// Reads the key of a DID document's verification method from its `type` and `publicKeyMultibase`.
    ///
    /// The two legacy types carry the bare point, compressed or not, and the type says the curve.
    pub fn from_verification_method(kind: &str, multibase_text: &str) -> Result<VerifyingKey, KeyError> {
        let curve = match kind {
            "Multikey" => return VerifyingKey::from_multikey(multibase_text),
            "EcdsaSecp256r1VerificationKey2019" => Curve::P256,
            "EcdsaSecp256k1VerificationKey2019" => Curve::K256,
            _ => return Err(KeyError::Unsupported),
        };
        VerifyingKey::from_point(curve, &multibase::decode(multibase_text).ok_or(KeyError::Text)?)
    }

    /// Reads a point in SEC 1 form, compressed or not.
    pub fn from_point(curve: Curve, point: &[u8]) -> Result<VerifyingKey, KeyError> {
        match curve {
            Curve::P256 => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).map_err(|_| KeyError::Point)?;
                let point = key.to_sec1_point(false);
                point.as_bytes().try_into().map(VerifyingKey::P256).map_err(|_| KeyError::Point)
            }
            // A third, hybrid form is read by the library, but no document may have it.
            Curve::K256 if matches!(point.first(), Some(2..=4)) => {
                secp256k1::PublicKey::from_slice(point).map(VerifyingKey::K256).map_err(|_| KeyError::Point)
            }
            Curve::K256 => Err(KeyError::Point),
        }
    }

    /// The curve.
    pub fn curve(&self) -> Curve {
        match self {
            VerifyingKey::P256(_) => Curve::P256,
            VerifyingKey::K256(_) => Curve::K256,
        }
    }

    /// The compressed point.
    pub fn to_compressed(&self) -> [u8; COMPRESSED_BYTES] {
        match self {
            VerifyingKey::P256(point) => {
                let mut compressed = [0; COMPRESSED_BYTES];
                // The sign of y (SEC 1, 2.3.3), then x.
                compressed[0] = 2 + (point[UNCOMPRESSED_BYTES - 1] & 1);
                compressed[1..].copy_from_slice(&point[1..COMPRESSED_BYTES]);
                compressed
            }
            VerifyingKey::K256(key) => key.serialize(),
        }
    }

    /// The `Multikey` text: `z…`, as in a DID document.
    pub fn to_multikey(&self) -> String {
        let codec = match self.curve() {
            Curve::P256 => P256_CODEC,
            Curve::K256 => K256_CODEC,
        };
        format!("z{}", multibase::base58_encode(&[&codec[..], &self.to_compressed()].concat()))
    }

    /// The `did:key:z…` text.
    pub fn to_did_key(&self) -> String {
        format!("{DID_KEY_PREFIX}{}", self.to_multikey())
    }

    /// Checks a signature of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let signature: &[u8; SIGNATURE_BYTES] = signature.try_into().map_err(|_| SignatureError::Length)?;
        match self {
            VerifyingKey::P256(point) => {
                p256::ecdsa::Signature::from_slice(signature).map_err(|_| SignatureError::Range)?;
                low_s(signature, &P256_HALF_ORDER)?;
                ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
                    .map_err(|_| SignatureError::Mismatch)
            }
            VerifyingKey::K256(key) => {
                k256::ecdsa::Signature::from_slice(signature).map_err(|_| SignatureError::Range)?;
                low_s(signature, &K256_HALF_ORDER)?;
                let parsed = secp256k1::ecdsa::Signature::from_compact(signature).map_err(|_| SignatureError::Range)?;
                K256.verify_ecdsa(Message::from_digest(Sha256::digest(message).into()), &parsed, key)
                    .map_err(|_| SignatureError::Mismatch)
            }
        }
    }
}

fn low_s(signature: &[u8; SIGNATURE_BYTES], half_order: &[u8; 32]) -> Result<(), SignatureError> {
    if signature[32..] > half_order[..] { Err(SignatureError::HighS) } else { Ok(()) }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_did_key())
    }
}

/// A private key, for the synthetic network and for tests.
#[derive(Clone)]
pub enum SigningKey {
    /// On P-256.
    P256(p256::ecdsa::SigningKey),
    /// On secp256k1.
    K256(k256::ecdsa::SigningKey),
}

impl SigningKey {
    /// The key with this secret number. Fails for zero and for numbers not below the group order, which random bytes
    /// practically never are.
    pub fn from_bytes(curve: Curve, secret: &[u8; 32]) -> Result<SigningKey, KeyError> {
        match curve {
            Curve::P256 => p256::ecdsa::SigningKey::from_slice(secret).map(SigningKey::P256),
            Curve::K256 => k256::ecdsa::SigningKey::from_slice(secret).map(SigningKey::K256),
        }
        .map_err(|_| KeyError::Point)
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let key = match self {
            SigningKey::P256(key) => {
                VerifyingKey::from_point(Curve::P256, key.verifying_key().to_sec1_point(true).as_bytes())
            }
            SigningKey::K256(key) => {
                VerifyingKey::from_point(Curve::K256, key.verifying_key().to_sec1_point(true).as_bytes())
            }
        };
        key.expect("the public half of a key is a point of its curve")
    }

    /// Signs a message. The nonce follows RFC 6979, so the same message gives the same signature, always low-S.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let digest = Sha256::digest(message);
        match self {
            SigningKey::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(&digest).expect("a sha-256 digest can be signed");
                signature.normalize_s().to_bytes().into()
            }
            SigningKey::K256(key) => {
                let signature: k256::ecdsa::Signature =
                    key.sign_prehash(&digest).expect("a sha-256 digest can be signed");
                signature.normalize_s().to_bytes().into()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.verifying_key())
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;

    use super::*;

    fn key(curve: Curve) -> SigningKey {
        SigningKey::from_bytes(curve, &[0x11; 32]).unwrap()
    }

    /// The other valid s of a signature: the group order minus s.
    fn flip_s(curve: Curve, signature: &[u8; 64]) -> [u8; 64] {
        let half = match curve {
            Curve::P256 => P256_HALF_ORDER,
            Curve::K256 => K256_HALF_ORDER,
        };
        // order = 2 * half + 1, both orders being odd; order - s is computed bytewise from the right.
        let (mut flipped, mut carry, mut borrow) = (*signature, 1u16, 0i16);
        for i in (0..32).rev() {
            let order = u16::from(half[i]) * 2 + carry;
            carry = order >> 8;
            let difference = (order & 0xff) as i16 - i16::from(signature[32 + i]) - borrow;
            borrow = i16::from(difference < 0);
            flipped[32 + i] = difference.rem_euclid(256) as u8;
        }
        flipped
    }

    #[test]
    fn known_keys() {
        assert_eq!(
            key(Curve::P256).verifying_key().to_did_key(),
            "did:key:zDnaeQa8zprPhHA7Yuxcgc2Uh6XNQgaKjmFZE4EaA9fk5svmJ"
        );
        assert_eq!(
            key(Curve::K256).verifying_key().to_did_key(),
            "did:key:zQ3shjyJXUaRJC2GC43mX8aPrUhoTdoiongXhZjsdTzPKYZUM"
        );
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        for curve in [Curve::P256, Curve::K256] {
            let (signer, message) = (key(curve), b"message");
            let (verifier, signature) = (signer.verifying_key(), signer.sign(message));
            assert_eq!(signer.sign(message), signature, "deterministic");
            assert_eq!(verifier.verify(message, &signature), Ok(()));
            assert_eq!(verifier.verify(b"massage", &signature), Err(SignatureError::Mismatch));
            let other = SigningKey::from_bytes(curve, &[0x12; 32]).unwrap().verifying_key();
            assert_eq!(other.verify(message, &signature), Err(SignatureError::Mismatch));
            assert_eq!(verifier.verify(message, &signature[..63]), Err(SignatureError::Length));
            assert_eq!(verifier.verify(message, &[signature.to_vec(), vec![0]].concat()), Err(SignatureError::Length));
            assert_eq!(verifier.verify(message, &[0; 64]), Err(SignatureError::Range));
            assert_eq!(verifier.verify(message, &[0xff; 64]), Err(SignatureError::Range));
        }
    }

    #[test]
    fn high_s_is_refused_on_both_curves() {
        for curve in [Curve::P256, Curve::K256] {
            let signer = key(curve);
            for message in [&b"a"[..], b"b", b"c", b"d", b"e", b"f", b"g", b"h"] {
                let high = flip_s(curve, &signer.sign(message));
                assert_eq!(signer.verifying_key().verify(message, &high), Err(SignatureError::HighS));
                assert_eq!(flip_s(curve, &high), signer.sign(message));
            }
        }
        // The flipped signature is a true one for P-256's own verifier: the test above is not vacuous.
        let SigningKey::P256(inner) = key(Curve::P256) else { unreachable!() };
        let high = flip_s(Curve::P256, &key(Curve::P256).sign(b"a"));
        let parsed = p256::ecdsa::Signature::from_slice(&high).unwrap();
        assert!(inner.verifying_key().verify_prehash(&Sha256::digest(b"a"), &parsed).is_ok());
        let SigningKey::K256(inner) = key(Curve::K256) else { unreachable!() };
        let high = flip_s(Curve::K256, &key(Curve::K256).sign(b"a"));
        let parsed = k256::ecdsa::Signature::from_slice(&high).unwrap();
        assert!(parsed.normalize_s() != parsed);
        assert!(inner.verifying_key().verify_prehash(&Sha256::digest(b"a"), &parsed.normalize_s()).is_ok());
    }

    #[test]
    fn der_is_refused() {
        // SEQUENCE of two INTEGERs, as OpenSSL writes signatures.
        let signature = key(Curve::K256).sign(b"x");
        let mut der = vec![0x30, 68, 2, 32];
        der.extend_from_slice(&signature[..32]);
        der.extend_from_slice(&[2, 32]);
        der.extend_from_slice(&signature[32..]);
        assert_eq!(key(Curve::K256).verifying_key().verify(b"x", &der), Err(SignatureError::Length));
    }

    #[test]
    fn all_text_forms_of_a_key() {
        for (curve, legacy) in
            [(Curve::P256, "EcdsaSecp256r1VerificationKey2019"), (Curve::K256, "EcdsaSecp256k1VerificationKey2019")]
        {
            let verifier = key(curve).verifying_key();
            assert_eq!(VerifyingKey::from_did_key(&verifier.to_did_key()), Ok(verifier.clone()));
            assert_eq!(
                VerifyingKey::from_verification_method("Multikey", &verifier.to_multikey()),
                Ok(verifier.clone())
            );
            let uncompressed = match &verifier {
                VerifyingKey::P256(point) => point.to_vec(),
                VerifyingKey::K256(key) => key.serialize_uncompressed().to_vec(),
            };
            for point in [verifier.to_compressed().to_vec(), uncompressed.clone()] {
                for text in
                    [format!("z{}", multibase::base58_encode(&point)), format!("f{}", multibase::hex_encode(&point))]
                {
                    assert_eq!(VerifyingKey::from_verification_method(legacy, &text), Ok(verifier.clone()), "{text}");
                }
            }
            let codec = multibase::decode(&verifier.to_multikey()).unwrap()[..2].to_vec();
            let fat = format!("f{}", multibase::hex_encode(&[codec, uncompressed].concat()));
            assert_eq!(VerifyingKey::from_multikey(&fat), Err(KeyError::Point));
        }
    }

    #[test]
    fn keys_that_are_none() {
        let good = key(Curve::K256).verifying_key().to_multikey();
        assert_eq!(VerifyingKey::from_did_key(&good), Err(KeyError::Text));
        assert_eq!(VerifyingKey::from_did_key("did:key:z"), Err(KeyError::Text));
        assert_eq!(VerifyingKey::from_did_key("did:key:z0OIl"), Err(KeyError::Text));
        assert_eq!(
            VerifyingKey::from_did_key("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"),
            Err(KeyError::Unsupported)
        );
        assert_eq!(VerifyingKey::from_verification_method("JsonWebKey2020", &good), Err(KeyError::Unsupported));
        assert_eq!(VerifyingKey::from_multikey(&format!("fe701{}", "05".repeat(33))), Err(KeyError::Point));
        assert_eq!(VerifyingKey::from_point(Curve::P256, &[]), Err(KeyError::Point));
        assert_eq!(VerifyingKey::from_point(Curve::P256, &[0]), Err(KeyError::Point), "the point at infinity");
        assert!(SigningKey::from_bytes(Curve::P256, &[0; 32]).is_err());
    }
}
