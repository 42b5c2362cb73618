// SPDX-License-Identifier: MIT OR Apache-2.0
//! The catalogue of what can be wrong between a gateway and its domain: a code that does not change, what it means, what helps, and what the
//! product itself may do about it. docs/AD.md is written from it. It must not know how any of it is found out.

use crate::effect::Program;
use crate::error::Kind;
use crate::format::ad_error::Why;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The machine has no name server.
    DnsNoServer,
    /// No name server answers.
    DnsSilent,
    /// The name server refuses, or its machine does.
    DnsRefused,
    /// The name server has a failure of its own.
    DnsFailed,
    /// The domain has no SRV records.
    SrvMissing,
    /// A domain controller has no address.
    ControllerUnresolved,
    /// A port of every domain controller is closed.
    PortRefused,
    /// A port of every domain controller does not answer.
    PortSilent,
    /// No way to any domain controller.
    Unreachable,
    /// No domain controller was found.
    ControllerNotFound,
    /// LDAP is refused.
    LdapRefused,
    /// SMB is refused.
    SmbRefused,
    /// No KDC answers.
    KdcUnreachable,
    /// The clocks differ by more than five minutes.
    ClockSkew,
    /// The NetBIOS name is another.
    WorkgroupWrong,
    /// Another computer has the name.
    NameTaken,
    /// The organizational unit does not exist.
    OuMissing,
    /// Wrong name or password.
    BadCredential,
    /// The account is disabled.
    AccountDisabled,
    /// The account has expired.
    AccountExpired,
    /// The password has to be changed first.
    PasswordMustChange,
    /// The account is locked.
    AccountLocked,
    /// Disabled, expired or locked.
    AccountRevoked,
    /// It may not log in this way.
    AccountRestricted,
    /// The account may not do that.
    NoRights,
    /// The account has joined as many machines as it may.
    MachineQuota,
    /// The machine is no member.
    NotJoined,
    /// The computer account is gone.
    MachineAccountGone,
    /// The domain does not take the machine's password.
    MachineSecretInvalid,
    /// winbindd does not run.
    WinbinddDown,
    /// The keytab is missing, or lacks the gateway's names.
    KeytabMissing,
    /// The computer account lacks the gateway's names.
    SpnLost,
    /// The machine's password was not changed in time.
    RotationOverdue,
    /// The domain has no such account.
    NameUnknown,
    /// A user was named as a group, or a group as a user.
    NameOfOtherKind,
    /// The group is for mail, and in nobody's token.
    GroupNotSecurity,
    /// The account's number lies outside of the range.
    OutOfRange,
    /// The account has another name now.
    Renamed,
    /// The account is good and may not use the share.
    NoAccess,
    /// Kerberos could not be used.
    NoTicket,
    /// Something did not answer in time.
    Timeout,
    /// None of the above.
    Unclear,
}

impl Reason {
    /// All, in the order of the enum.
    pub const ALL: [Reason; 42] = {
        use Reason::*;
        [
            DnsNoServer,
            DnsSilent,
            DnsRefused,
            DnsFailed,
            SrvMissing,
            ControllerUnresolved,
            PortRefused,
            PortSilent,
            Unreachable,
            ControllerNotFound,
            LdapRefused,
            SmbRefused,
            KdcUnreachable,
            ClockSkew,
            WorkgroupWrong,
            NameTaken,
            OuMissing,
            BadCredential,
            AccountDisabled,
            AccountExpired,
            PasswordMustChange,
            AccountLocked,
            AccountRevoked,
            AccountRestricted,
            NoRights,
            MachineQuota,
            NotJoined,
            MachineAccountGone,
            MachineSecretInvalid,
            WinbinddDown,
            KeytabMissing,
            SpnLost,
            RotationOverdue,
            NameUnknown,
            NameOfOtherKind,
            GroupNotSecurity,
            OutOfRange,
            Renamed,
            NoAccess,
            NoTicket,
            Timeout,
            Unclear,
        ]
    };

    /// Code, meaning, remedy.
    fn entry(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Reason::DnsNoServer => (
                "dns-no-server",
                "the machine has no name server",
                "put the domain's name servers into /etc/resolv.conf (of a container: pct set VMID --nameserver)",
            ),
            Reason::DnsSilent => (
                "dns-silent",
                "no name server answers",
                "check the name servers in /etc/resolv.conf, and that UDP and TCP 53 reach them",
            ),
            Reason::DnsRefused => (
                "dns-refused",
                "the name server refuses to answer",
                "name a server in /etc/resolv.conf that knows the domain: usually a domain controller",
            ),
            Reason::DnsFailed => (
                "dns-failed",
                "the name server has a failure of its own",
                "look into the name server: it may not reach the one that knows the domain",
            ),
            Reason::SrvMissing => (
                "srv-missing",
                "DNS knows no domain controller of the domain",
                "check the spelling of the domain; name a server in /etc/resolv.conf that has its zone",
            ),
            Reason::ControllerUnresolved => {
                ("dc-unresolved", "a domain controller has no address in DNS", "mend the record of the domain controller in DNS")
            }
            Reason::PortRefused => (
                "port-refused",
                "a port of every domain controller is closed",
                "start the service on a domain controller, or open the port in its firewall",
            ),
            Reason::PortSilent => (
                "port-silent",
                "a port of every domain controller does not answer",
                "open 53, 88, 389 and 445 between gateway and domain controllers",
            ),
            Reason::Unreachable => {
                ("unreachable", "there is no way to any domain controller", "check routes, VLAN and address of the gateway")
            }
            Reason::ControllerNotFound => ("dc-not-found", "no domain controller was found", "run: pve-smbgateway ad check"),
            Reason::LdapRefused => {
                ("ldap-refused", "LDAP of the domain controller cannot be used", "check port 389 of the domain controller")
            }
            Reason::SmbRefused => {
                ("smb-refused", "SMB of the domain controller cannot be used", "check port 445 of the domain controller")
            }
            Reason::KdcUnreachable => ("kdc-unreachable", "no KDC answers", "check port 88 of the domain controllers"),
            Reason::ClockSkew => (
                "clock-skew",
                "the clocks differ by more than five minutes, and Kerberos refuses that",
                "synchronise the clocks of node and domain controller (chrony)",
            ),
            Reason::WorkgroupWrong => (
                "workgroup-wrong",
                "the domain has another NetBIOS name",
                "write accounts with the NetBIOS name that the domain has",
            ),
            Reason::NameTaken => (
                "name-taken",
                "another computer has the gateway's name in the domain",
                "choose another name for the gateway, or remove the other computer's account",
            ),
            Reason::OuMissing => (
                "ou-missing",
                "the organizational unit does not exist",
                "correct smbgw-ad-ou: names of the units from the top, separated by '/'",
            ),
            Reason::BadCredential => (
                "bad-credential",
                "the domain does not accept name and password",
                "check both; the account is one of the domain, without its prefix",
            ),
            Reason::AccountDisabled => ("account-disabled", "the account is disabled", "enable it, or use another"),
            Reason::AccountExpired => ("account-expired", "the account has expired", "prolong it, or use another"),
            Reason::PasswordMustChange => (
                "password-must-change",
                "the account's password has to be changed before it can be used",
                "log in with it once and change it, or use another account",
            ),
            Reason::AccountLocked => (
                "account-locked",
                "the account is locked after too many attempts",
                "unlock it, or wait as long as the domain's policy says",
            ),
            Reason::AccountRevoked => {
                ("account-revoked", "the account is disabled, expired or locked", "look at it in the domain, or use another")
            }
            Reason::AccountRestricted => (
                "account-restricted",
                "the account may not log in at this time, from here, or in this way",
                "look at its restrictions in the domain",
            ),
            Reason::NoRights => (
                "no-rights",
                "the account may not do that in the domain",
                "delegate the creation of computers in an organizational unit to it (docs/AD.md), and name that with smbgw-ad-ou",
            ),
            Reason::MachineQuota => (
                "machine-quota",
                "the account has joined as many computers as it may",
                "use an account to which the creation of computers is delegated",
            ),
            Reason::NotJoined => ("not-joined", "the machine is no member of the domain", "pve-smbgateway ad join"),
            Reason::MachineAccountGone => {
                ("machine-account-gone", "the domain has no account of the gateway any more", "pve-smbgateway ad join")
            }
            Reason::MachineSecretInvalid => {
                ("machine-secret-invalid", "the domain does not take the gateway's password any more", "pve-smbgateway ad join")
            }
            Reason::WinbinddDown => (
                "winbindd-down",
                "winbindd does not run or does not answer",
                "the worker starts it; see /var/log/samba/log.winbindd",
            ),
            Reason::KeytabMissing => (
                "keytab-missing",
                "the keytab is missing or lacks the gateway's names",
                "the worker makes it anew while a domain controller answers",
            ),
            Reason::SpnLost => {
                ("spn-lost", "the computer account has lost names of the gateway", "pve-smbgateway ad join puts them back")
            }
            Reason::RotationOverdue => (
                "rotation-overdue",
                "the gateway's password was not changed for more than two weeks",
                "the worker changes it; winbindd does so every week while it runs",
            ),
            Reason::NameUnknown => (
                "name-unknown",
                "the domain has no such account",
                "check the name, as the domain writes it before Windows 2000 (sAMAccountName)",
            ),
            Reason::NameOfOtherKind => (
                "name-of-other-kind",
                "that is a user and no group, or a group and no user",
                "write groups with '@' in front, users without",
            ),
            Reason::GroupNotSecurity => (
                "group-not-security",
                "the group is a distribution group, which gives no access",
                "make it a security group, or name another",
            ),
            Reason::OutOfRange => (
                "out-of-range",
                "the account has no number in the gateway's range",
                "choose a larger range with smbgw-idmap before the gateway joins, or serve it natively",
            ),
            Reason::Renamed => (
                "renamed",
                "an account has another name in the domain now; its access stays",
                "write the new name into smbgw-access",
            ),
            Reason::NoAccess => (
                "no-access",
                "the account is good, and may not use the share",
                "pve-smbgateway ad whoami tells why; access is given with smbgw-access",
            ),
            Reason::NoTicket => ("no-ticket", "Kerberos could not be used", "check the clock, DNS names and port 88"),
            Reason::Timeout => ("timeout", "something did not answer in time", "check the network to the domain controllers"),
            Reason::Unclear => {
                ("unclear", "it failed, and the cause is not in the catalogue", "look at the evidence, and into /var/log/samba")
            }
        }
    }

    /// The code.
    pub fn code(self) -> &'static str {
        self.entry().0
    }

    /// What it means.
    pub fn means(self) -> &'static str {
        self.entry().1
    }

    /// What helps.
    pub fn remedy(self) -> &'static str {
        self.entry().2
    }

    /// The property of a section that is to blame, where one is.
    pub fn property(self) -> Option<&'static str> {
        match self {
            Reason::SrvMissing => Some("domain"),
            Reason::OuMissing => Some("smbgw-ad-ou"),
            Reason::NameUnknown | Reason::NameOfOtherKind | Reason::GroupNotSecurity | Reason::OutOfRange => Some("smbgw-access"),
            Reason::BadCredential
            | Reason::AccountDisabled
            | Reason::AccountExpired
            | Reason::PasswordMustChange
            | Reason::AccountLocked
            | Reason::AccountRevoked
            | Reason::AccountRestricted
            | Reason::NoRights
            | Reason::MachineQuota => Some("username"),
            _ => None,
        }
    }

    /// The kind of error it is.
    pub fn kind(self) -> Kind {
        match self {
            Reason::NameTaken => Kind::Conflict,
            Reason::Timeout | Reason::DnsSilent | Reason::PortSilent => Kind::Timeout,
            _ => Kind::Service,
        }
    }

    /// Which of several reasons tells most: the lower number. `wbinfo --ping-dc`, for one, says of an account that is gone that it finds no
    /// domain controller.
    pub fn rank(self) -> u8 {
        use Reason::*;
        match self {
            DnsNoServer | DnsSilent | DnsRefused | DnsFailed | SrvMissing | ControllerUnresolved | PortRefused | PortSilent
            | Unreachable => 0,
            ClockSkew => 1,
            NotJoined => 2,
            MachineAccountGone => 3,
            AccountDisabled | AccountRevoked => 4,
            MachineSecretInvalid => 5,
            WinbinddDown => 6,
            ControllerNotFound | LdapRefused | SmbRefused | KdcUnreachable | NoTicket | Timeout => 8,
            SpnLost => 9,
            KeytabMissing => 10,
            RotationOverdue => 11,
            Unclear => 12,
            _ => 7,
        }
    }

    /// No domain controller can be used at all: what a fallback to local users is for. Nothing that is about the gateway's own account.
    pub fn is_outage(self) -> bool {
        use Reason::*;
        matches!(
            self,
            DnsNoServer
                | DnsSilent
                | DnsRefused
                | DnsFailed
                | SrvMissing
                | ControllerUnresolved
                | PortRefused
                | PortSilent
                | Unreachable
                | ControllerNotFound
                | LdapRefused
                | SmbRefused
                | KdcUnreachable
                | Timeout
        )
    }

    /// The reason for what a program said.
    pub fn of(why: &Why, program: Program) -> Self {
        match why {
            Why::BadCredential | Why::PasswordWrongForUser => Reason::BadCredential,
            Why::NameUnknown if program == Program::Wbinfo => Reason::NameUnknown,
            Why::NameUnknown => Reason::BadCredential,
            Why::AccountDisabled => Reason::AccountDisabled,
            Why::AccountExpired => Reason::AccountExpired,
            Why::MustChangePassword => Reason::PasswordMustChange,
            Why::AccountLocked => Reason::AccountLocked,
            Why::AccountRevoked => Reason::AccountRevoked,
            Why::AccountRestricted => Reason::AccountRestricted,
            Why::NoRights => Reason::NoRights,
            Why::OuMissing => Reason::OuMissing,
            Why::WorkgroupWrong { .. } => Reason::WorkgroupWrong,
            Why::DcNotFound => Reason::ControllerNotFound,
            Why::LdapRefused => Reason::LdapRefused,
            Why::SmbRefused => Reason::SmbRefused,
            Why::KdcUnreachable | Why::KdcNotFound => Reason::KdcUnreachable,
            Why::ClockSkew => Reason::ClockSkew,
            Why::NotJoined => Reason::NotJoined,
            Why::MachineAccountGone => Reason::MachineAccountGone,
            Why::MachineSecretInvalid => Reason::MachineSecretInvalid,
            Why::WinbindDown => Reason::WinbinddDown,
            Why::RealmSpelling | Why::KerberosToIp | Why::NoTicket => Reason::NoTicket,
            Why::MachineQuota => Reason::MachineQuota,
            Why::NameTaken => Reason::NameTaken,
            Why::Timeout => Reason::Timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_code_and_words() {
        for (i, a) in Reason::ALL.iter().enumerate() {
            assert!(Reason::ALL[i + 1..].iter().all(|b| b.code() != a.code() && b != a), "{a:?}");
            assert!(a.code().bytes().all(|c| c.is_ascii_lowercase() || c == b'-'), "{a:?}");
            assert!(!a.means().is_empty() && !a.remedy().is_empty() && !a.means().ends_with('.'), "{a:?}");
        }
    }

    #[test]
    fn the_manual_has_every_reason() {
        let manual = include_str!("../../../docs/AD.md");
        for r in Reason::ALL {
            let row = format!("| `{}` | {} | {} |", r.code(), r.means(), r.remedy());
            assert!(manual.contains(&row), "docs/AD.md lacks: {row}");
        }
    }
}
