//! Where a service listens and where it is reached: Unix sockets, loopback, or TLS.

use std::{net::SocketAddr, path::PathBuf, str::FromStr};

/// An address of one of our services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix:/path/to.sock`
    Unix(PathBuf),
    /// `127.0.0.1:8080` or `http://127.0.0.1:8080`; loopback only for clients.
    Tcp(SocketAddr),
    /// `https://host:port`, for clients.
    Tls(String),
}

/// Text that is not an address we would use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address at all.
    #[error("`{0}` is not an address: expected unix:/path, 127.0.0.1:8080 or https://host:port")]
    Malformed(String),
    /// Tokens would travel in the clear.
    #[error(
        "`{0}` is neither loopback nor TLS: tokens must not travel over it; use https:// or a Unix socket"
    )]
    InTheClear(String),
    /// The kernel takes at most 107 bytes.
    #[error("the socket path `{0}` is longer than 107 bytes; choose a shorter data_dir")]
    SocketPathTooLong(String),
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.len() > 107 {
                return Err(AddressError::SocketPathTooLong(path.to_owned()));
            }
            return if path.is_empty() {
                Err(AddressError::Malformed(text.to_owned()))
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        if text.starts_with("https://") {
            return Ok(Self::Tls(text.to_owned()));
        }
        let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        plain.parse().map(Self::Tcp).map_err(|_| AddressError::Malformed(text.to_owned()))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Tls(url) => f.write_str(url),
        }
    }
}

impl Address {
    /// A channel that connects when it is first used and again after it broke.
    ///
    /// # Errors
    /// [`AddressError::InTheClear`] for TCP that is neither loopback nor TLS.
    pub fn channel(&self) -> Result<tonic::transport::Channel, AddressError> {
        use tonic::transport::{ClientTlsConfig, Endpoint};
        let malformed = |_| AddressError::Malformed(self.to_string());
        let endpoint = match self {
            Self::Unix(path) => {
                Endpoint::try_from(format!("unix://{}", path.display())).map_err(malformed)?
            }
            Self::Tcp(address) if address.ip().is_loopback() => {
                Endpoint::try_from(format!("http://{address}")).map_err(malformed)?
            }
            Self::Tcp(_) => return Err(AddressError::InTheClear(self.to_string())),
            Self::Tls(url) => Endpoint::try_from(url.clone())
                .and_then(|e| e.tls_config(ClientTlsConfig::new().with_enabled_roots()))
                .map_err(malformed)?,
        };
        Ok(endpoint.connect_lazy())
    }

    /// Checks that a server may listen here without TLS.
    ///
    /// # Errors
    /// [`AddressError::InTheClear`] for TCP beyond loopback.
    pub fn allow_plain_listener(&self) -> Result<(), AddressError> {
        match self {
            Self::Unix(_) => Ok(()),
            Self::Tcp(address) if address.ip().is_loopback() => Ok(()),
            Self::Tcp(_) | Self::Tls(_) => Err(AddressError::InTheClear(self.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_kinds() {
        assert_eq!("unix:/run/a.sock".parse(), Ok(Address::Unix("/run/a.sock".into())));
        assert!(matches!("127.0.0.1:80".parse(), Ok(Address::Tcp(_))));
        assert!(matches!("https://cp.example:8443".parse(), Ok(Address::Tls(_))));
        assert!(matches!("cp.example".parse::<Address>(), Err(AddressError::Malformed(_))));
        let long = format!("unix:/{}", "x".repeat(120));
        assert!(matches!(long.parse::<Address>(), Err(AddressError::SocketPathTooLong(_))));
    }

    #[tokio::test]
    async fn tokens_do_not_travel_in_the_clear() {
        let far: Address = "http://10.0.0.8:9000".parse().expect("an address");
        assert!(matches!(far.channel(), Err(AddressError::InTheClear(_))));
        assert!(far.allow_plain_listener().is_err());
        let near: Address = "http://127.0.0.1:9000".parse().expect("an address");
        assert!(near.channel().is_ok() && near.allow_plain_listener().is_ok());
    }
}
