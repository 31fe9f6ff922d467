//! TLS towards the nodes: whose certificates are accepted, and the one that we show.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

/// Which names the certificate of a node must hold. Nodes are known by their addresses, so those are the names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Names {
    /// The address that was dialled.
    #[default]
    Address,
    /// Any: that it is signed by one of those we trust is enough. For clusters whose nodes share a certificate.
    Any,
}

/// What is needed to speak TLS with a cluster. It shows no secret.
#[derive(Clone)]
pub struct Tls {
    pub(super) client: Arc<ClientConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("shows_certificate", &self.shows_certificate()).finish()
    }
}

impl Tls {
    pub(super) fn shows_certificate(&self) -> bool {
        self.client.client_auth_cert_resolver.has_certs()
    }

    /// Reads PEM files: the certificates that sign those of the nodes, and, for a cluster that asks for ours, ours with
    /// those that lead to it, and its key.
    ///
    /// # Errors
    /// One line that says which file is wrong, and how.
    pub fn read(trusted: &Path, ours: Option<(&Path, &Path)>, names: Names) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(trusted)? {
            roots
                .add(certificate)
                .map_err(|e| format!("{}: not a certificate that can sign: {e}", trusted.display()))?;
        }
        let verifier = verifier(roots, names, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("TLS cannot be used: {e}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let client = match ours {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| format!("{}: no private key can be read from it: {e}", key.display()))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, secret)
                    .map_err(|e| format!("{} and {} do not go together: {e}", certificate.display(), key.display()))?
            }
        };
        Ok(Self { client: Arc::new(client) })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|e| format!("{}: no certificates can be read from it: {e}", file.display()))?;
    match found.is_empty() {
        true => Err(format!("{}: there is no certificate in it; PEM is expected", file.display())),
        false => Ok(found),
    }
}

fn verifier(
    roots: RootCertStore,
    names: Names,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|e| format!("TLS cannot be used: {e}"))?;
    Ok(match names {
        Names::Address => strict,
        Names::Any => Arc::new(AnyName(strict)),
    })
}

/// Accepts what the strict one accepts, and what it refuses for its names alone.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // Names are looked at last: whoever is refused for them is signed by one we trust, and in its time.
        match self.0.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What a connection that failed says of TLS, and what to do about it; nothing if it failed for another reason.
pub(super) fn refusal(error: &std::io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match tls {
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the certificate of a node does not name its address ({tls}): give the nodes certificates that do, or add \
             ?tls=any_name to the address to accept every node whose certificate --store-ca signs"
        ),
        rustls::Error::InvalidCertificate(_) => format!(
            "the certificate of a node is refused ({tls}): --store-ca must hold the certificate that signs those of \
             the nodes"
        ),
        rustls::Error::AlertReceived(_) => format!(
            "a node refuses us ({tls}): if it asks for a certificate, set --store-cert and --store-key to one that it \
             trusts"
        ),
        _ => format!("TLS with a node fails: {tls}"),
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, path::PathBuf};

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ClientConnection, ServerConfig, ServerConnection, server::WebPkiClientVerifier};

    use super::*;

    struct Signer {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
        der: CertificateDer<'static>,
    }

    fn signer() -> Signer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let own = params.self_signed(&key).unwrap();
        Signer { pem: own.pem(), der: own.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for some names, and its key.
    fn signed(by: &Signer, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        (CertificateParams::new(names).unwrap().signed_by(&key, &by.issuer).unwrap(), key)
    }

    fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Shakes hands in memory with a node at 127.0.0.1; with `asks`, one that wants a certificate of that signer.
    fn shake(tls: &Tls, node: &(rcgen::Certificate, KeyPair), asks: Option<&Signer>) -> Result<(), rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match asks {
            None => builder.with_no_client_auth(),
            Some(signer) => {
                let mut roots = RootCertStore::empty();
                roots.add(signer.der.clone()).unwrap();
                let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(asks)
            }
        };
        let key = PrivateKeyDer::try_from(node.1.serialize_der()).unwrap();
        let config = builder.with_single_cert(vec![node.0.der().clone()], key).unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut client = ClientConnection::new(Arc::clone(&tls.client), name).unwrap();
        for _ in 0..8 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            let mut wire = Cursor::new(sent);
            while server.read_tls(&mut wire).unwrap() > 0 {}
            let taken = server.process_new_packets();
            let mut sent = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sent).unwrap();
            }
            let mut wire = Cursor::new(sent);
            while client.read_tls(&mut wire).unwrap() > 0 {}
            client.process_new_packets()?;
            if taken.is_ok() && !client.is_handshaking() && !server.is_handshaking() {
                return Ok(());
            }
        }
        panic!("the handshake does not end");
    }

    #[test]
    fn nodes_are_trusted_for_their_signer_and_their_address() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, stranger) = (signer(), signer());
        let trusted = file(&folder, "ca.pem", &ours.pem);
        let strict = Tls::read(&trusted, None, Names::Address).unwrap();
        let any = Tls::read(&trusted, None, Names::Any).unwrap();
        let (right, elsewhere) = (signed(&ours, &["127.0.0.1"]), signed(&ours, &["10.0.0.1", "db.test"]));
        let unknown = signed(&stranger, &["127.0.0.1"]);
        assert_eq!(shake(&strict, &right, None), Ok(()));
        assert_eq!(shake(&any, &right, None), Ok(()));
        assert_eq!(shake(&any, &elsewhere, None), Ok(()));
        let said = |error| refusal(&std::io::Error::other(error)).unwrap();
        assert!(said(shake(&strict, &elsewhere, None).unwrap_err()).contains("?tls=any_name"));
        assert!(said(shake(&strict, &unknown, None).unwrap_err()).contains("--store-ca"));
        assert!(said(shake(&any, &unknown, None).unwrap_err()).contains("--store-ca"), "any name, not anybody");
        assert_eq!(refusal(&std::io::Error::other("reset")), None);
    }

    #[test]
    fn a_cluster_that_asks_for_a_certificate_is_shown_ours() {
        let folder = tempfile::tempdir().unwrap();
        let ours = signer();
        let trusted = file(&folder, "ca.pem", &ours.pem);
        let (certificate, key) = signed(&ours, &["plane.test"]);
        let (certificate, key) =
            (file(&folder, "cert.pem", &certificate.pem()), file(&folder, "key.pem", &key.serialize_pem()));
        let node = signed(&ours, &["127.0.0.1"]);
        let shows = Tls::read(&trusted, Some((&certificate, &key)), Names::Address).unwrap();
        assert_eq!(shake(&shows, &node, Some(&ours)), Ok(()));
        let silent = Tls::read(&trusted, None, Names::Address).unwrap();
        let said = refusal(&std::io::Error::other(shake(&silent, &node, Some(&ours)).unwrap_err())).unwrap();
        assert!(said.contains("--store-cert"), "{said}");
    }

    #[test]
    fn a_file_that_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, other) = (signer(), signer());
        let trusted = file(&folder, "ca.pem", &ours.pem);
        let empty = file(&folder, "empty.pem", "nothing here\n");
        let said = |trusted: &Path, ours: Option<(&Path, &Path)>| {
            let said = Tls::read(trusted, ours, Names::Address).unwrap_err();
            assert!(!said.contains('\n'), "{said}");
            said
        };
        assert!(said(&folder.path().join("missing"), None).contains("missing: no certificates"));
        assert!(said(&empty, None).contains("empty.pem: there is no certificate"));
        assert!(said(&trusted, Some((&trusted, &empty))).contains("empty.pem: no private key"));
        let (certificate, _) = signed(&ours, &["plane.test"]);
        let certificate = file(&folder, "cert.pem", &certificate.pem());
        let key = file(&folder, "key.pem", &signed(&other, &["x.test"]).1.serialize_pem());
        assert!(said(&trusted, Some((&certificate, &key))).contains("do not go together"));
    }
}
