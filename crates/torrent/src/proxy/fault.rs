//! How a proxy can let us down.

/// Why a proxy is of no use, or did not get us to where we wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// It answers with something that its protocol does not have.
    #[error(
        "it answers in another protocol: is its address right, and does it begin with the right scheme?"
    )]
    WrongProtocol,
    /// It lets nobody in without a name, and none was given.
    #[error(
        "it wants a user name and a password: put them into its address, as in socks5://USER:PASSWORD@HOST:PORT"
    )]
    LoginWanted,
    /// It does not know the name, or the password is another.
    #[error("it refuses the user name or the password")]
    LoginRefused,
    /// It refused what was asked for.
    #[error("{0}")]
    Refused(SocksReply),
    /// It answered a CONNECT with this HTTP status.
    #[error("it answers CONNECT with HTTP status {0}")]
    HttpStatus(u16),
    /// Its answer has no end.
    #[error("its answer is too long")]
    TooLong,
    /// It ended the connection in the midst of its answer.
    #[error("it ended the connection before it had answered")]
    Ended,
}

impl ProxyFault {
    /// Whether it is the target that cannot be reached, rather than the proxy that is of no use.
    pub const fn is_of_target(self) -> bool {
        match self {
            Self::Refused(reply) => match reply {
                SocksReply::GeneralFailure
                | SocksReply::NotAllowed
                | SocksReply::NetworkUnreachable
                | SocksReply::HostUnreachable
                | SocksReply::ConnectionRefused
                | SocksReply::TtlExpired
                | SocksReply::AddressNotSupported => true,
                SocksReply::CommandNotSupported | SocksReply::Other(_) => false,
            },
            // 403 and the like may be for this target alone; what says "not you" is a login that is refused.
            Self::HttpStatus(_) => true,
            // Some close rather than say that nobody answers there.
            Self::Ended => true,
            Self::WrongProtocol | Self::LoginWanted | Self::LoginRefused | Self::TooLong => false,
        }
    }
}

/// What a SOCKS5 proxy answers if it does not do what was asked (RFC 1928, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocksReply {
    /// 1
    #[error("it failed, without saying why")]
    GeneralFailure,
    /// 2
    #[error("its rules do not allow it")]
    NotAllowed,
    /// 3
    #[error("it does not reach that network")]
    NetworkUnreachable,
    /// 4
    #[error("it does not reach that host")]
    HostUnreachable,
    /// 5
    #[error("the connection was refused there")]
    ConnectionRefused,
    /// 6
    #[error("nobody answered it in time")]
    TtlExpired,
    /// 7
    #[error("it does not support this command: datagrams need one that supports UDP ASSOCIATE")]
    CommandNotSupported,
    /// 8
    #[error("it does not support this kind of address")]
    AddressNotSupported,
    /// Any other.
    #[error("it refused, with the unknown code {0}")]
    Other(u8),
}

impl SocksReply {
    /// What the code of an answer stands for; `None` if it is success.
    pub(super) const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => return None,
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressNotSupported,
            other => Self::Other(other),
        })
    }
}
