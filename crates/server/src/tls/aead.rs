//! Record protection that keeps a key's bytes instead of its expanded form.
//!
//! ring expands an AES-256-GCM key to some 550 bytes, and a TLS connection has two. A stream of ticks uses each a
//! few times a minute, so the expansion is made anew for each record, on the stack. What that saves and costs:
//! docs/decisions/0008-tls.md.
//!
//! The records themselves are RFC 8446, section 5.2, sealed and opened as rustls's own provider does it.

use ring::aead::{self, Aad, LessSafeKey, UnboundKey};
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Nonce,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::crypto::ring::cipher_suite;
use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite,
    Tls13CipherSuite,
};

/// Bytes of the tag that each record ends with, for all three algorithms.
const TAG_BYTES: usize = 16;

/// The three cipher suites of TLS 1.3 that ring knows, the cheapest first: a handshake hashes some fifty times, and
/// few processors have instructions for SHA-384.
pub static CIPHER_SUITES: [SupportedCipherSuite; 3] = [
    SupportedCipherSuite::Tls13(&AES_128_GCM_SHA256),
    SupportedCipherSuite::Tls13(&AES_256_GCM_SHA384),
    SupportedCipherSuite::Tls13(&CHACHA20_POLY1305_SHA256),
];

static AES_256_GCM_SHA384: Tls13CipherSuite = compact(cipher_suite::TLS13_AES_256_GCM_SHA384, &AES_256_GCM);
static AES_128_GCM_SHA256: Tls13CipherSuite = compact(cipher_suite::TLS13_AES_128_GCM_SHA256, &AES_128_GCM);
static CHACHA20_POLY1305_SHA256: Tls13CipherSuite =
    compact(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &CHACHA20_POLY1305);

static AES_256_GCM: Compact = Compact {
    algorithm: &aead::AES_256_GCM,
    secrets: |key, iv| ConnectionTrafficSecrets::Aes256Gcm { key, iv },
};
static AES_128_GCM: Compact = Compact {
    algorithm: &aead::AES_128_GCM,
    secrets: |key, iv| ConnectionTrafficSecrets::Aes128Gcm { key, iv },
};
static CHACHA20_POLY1305: Compact = Compact {
    algorithm: &aead::CHACHA20_POLY1305,
    secrets: |key, iv| ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
};

/// `suite` with another record protection.
const fn compact(suite: SupportedCipherSuite, aead_alg: &'static Compact) -> Tls13CipherSuite {
    let Some(Tls13CipherSuite { common, hkdf_provider, .. }) = suite.tls13() else {
        panic!("a suite of TLS 1.3");
    };
    let common = CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    };
    Tls13CipherSuite { common, hkdf_provider: *hkdf_provider, aead_alg, quic: None }
}

/// One of ring's algorithms.
struct Compact {
    algorithm: &'static aead::Algorithm,
    secrets: fn(AeadKey, Iv) -> ConnectionTrafficSecrets,
}

impl Tls13AeadAlgorithm for Compact {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Direction { algorithm: self.algorithm, key, iv })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Direction { algorithm: self.algorithm, key, iv })
    }

    fn key_len(&self) -> usize {
        self.algorithm.key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Ok((self.secrets)(key, iv))
    }
}

/// One direction of a connection. The key wipes itself when it is dropped.
struct Direction {
    algorithm: &'static aead::Algorithm,
    key: AeadKey,
    iv: Iv,
}

impl Direction {
    fn key(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(self.algorithm, self.key.as_ref());
        key.map(LessSafeKey::new).map_err(|_| Error::General("an AEAD key of the wrong length".into()))
    }

    /// The nonce of the record with this sequence number, which no other record of the key has.
    fn nonce(&self, sequence: u64) -> aead::Nonce {
        aead::Nonce::assume_unique_for_key(Nonce::new(&self.iv, sequence).0)
    }
}

impl MessageEncrypter for Direction {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let sealed_len = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(sealed_len);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        self.key()?
            .seal_in_place_append_tag(
                self.nonce(sequence),
                Aad::from(make_tls13_aad(sealed_len)),
                &mut payload,
            )
            .map_err(|_| Error::EncryptError)?;
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + TAG_BYTES
    }
}

impl MessageDecrypter for Direction {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        if payload.len() < TAG_BYTES {
            return Err(Error::DecryptError);
        }
        let aad = Aad::from(make_tls13_aad(payload.len()));
        let plain = self.key()?.open_in_place(self.nonce(sequence), aad, payload);
        let plain_len = plain.map_err(|_| Error::DecryptError)?.len();
        payload.truncate(plain_len);
        message.into_tls13_unpadded_message()
    }
}
