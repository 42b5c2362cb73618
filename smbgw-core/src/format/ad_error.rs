// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why `net ads`, `wbinfo`, `kinit`, `smbclient` and `rpcclient` failed, by what they print: their exit status is 255 or 1 for everything. It knows
//! the texts of Samba 4.17 (fixtures; the words are those of its error tables) and MIT Kerberos 1.20; what to do about it must be said elsewhere.
//!
//! Give it standard output and standard error together, of a command that *failed*: some of the lines are also printed by one that
//! succeeded by another way (`FAST fast response is missing FX-FAST` by a join with a clock that is wrong). Some causes have one text:
//! a wrong clock with Kerberos required looks like a wrong password on standard output, and every trouble with finding a domain controller is
//! [`Why::DcNotFound`].

use serde::{Deserialize, Serialize};

/// The cause that a text stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The name or the password is wrong; which, is not said.
    BadCredential,
    /// The password of an account that exists is wrong.
    PasswordWrongForUser,
    /// There is no such user or group (or winbindd cannot see its domain, which it calls the same).
    NameUnknown,
    /// The account is disabled.
    AccountDisabled,
    /// The account has expired.
    AccountExpired,
    /// The password has expired, or must be changed before the first use.
    MustChangePassword,
    /// The account is locked after too many attempts.
    AccountLocked,
    /// The account is disabled, expired or locked: Kerberos does not say which.
    AccountRevoked,
    /// The account may not log on this way: at this time, from this machine, by NTLM.
    AccountRestricted,
    /// The account may not do that.
    NoRights,
    /// The organizational unit does not exist.
    OuMissing,
    /// The short name of the domain is another one.
    WorkgroupWrong {
        /// The right one, if it was told.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        expected: Option<String>,
    },
    /// No domain controller was found: DNS has no records or does not answer, or none of them answers.
    DcNotFound,
    /// LDAP (389) of the domain controller refuses or cannot be reached.
    LdapRefused,
    /// SMB (445) of the server refuses or cannot be reached.
    SmbRefused,
    /// No KDC (88) answers.
    KdcUnreachable,
    /// DNS names no KDC for the realm.
    KdcNotFound,
    /// The realm is not spelt in capitals, or the KDC is one of another realm.
    RealmSpelling,
    /// The clocks differ by more than five minutes.
    ClockSkew,
    /// This machine has not joined a domain.
    NotJoined,
    /// The domain has no account of this machine any more.
    MachineAccountGone,
    /// The domain does not take this machine's password or key (any more), or there is none here. Of an account that is gone
    /// winbindd says this, too.
    MachineSecretInvalid,
    /// winbindd does not run or does not answer.
    WinbindDown,
    /// Kerberos needs a name: the server was named by its address.
    KerberosToIp,
    /// Kerberos is required and there is no ticket.
    NoTicket,
    /// The user has joined as many machines as a user may.
    MachineQuota,
    /// An account of that name exists already.
    NameTaken,
    /// Somebody did not answer in time.
    Timeout,
}

use Why::*;

/// Words that stand together in one line, and what they mean; the first that fits wins, so what is more telling comes first: what was said of
/// this machine's own account, then of the account that was used, then of the domain controller, and last what may be a mere
/// consequence or noise.
const RULES: &[(&[&str], Why)] = &[
    // This machine.
    (&["WBC_ERR_WINBIND_NOT_AVAILABLE"], WinbindDown),
    (&["could not ping winbindd"], WinbindDown),
    (&["Ping to winbindd failed"], WinbindDown),
    (&["Could not ping our DC: WBC_ERR_WINBIND"], WinbindDown),
    (&["$@", "not found in Kerberos database"], MachineAccountGone),
    (&["$@", "Client not found in Kerberos database"], MachineAccountGone),
    (&["NT_STATUS_NO_TRUST_SAM_ACCOUNT"], MachineAccountGone),
    (&["does not have a computer account for this workstation"], MachineAccountGone),
    (&["Join to domain is not valid: NT code 0xfffffff6"], NotJoined),
    (&["are we joined?"], NotJoined),
    (&["Not joined to"], NotJoined),
    (&["NT_STATUS_NO_TRUST_LSA_SECRET"], NotJoined),
    (&["does not have a trust secret for the primary domain"], NotJoined),
    (&["NT_STATUS_CANT_ACCESS_DOMAIN_INFO"], NotJoined),
    (&["Configuration information could not be read from the domain controller"], NotJoined),
    (&["$@", "Preauthentication failed"], MachineSecretInvalid),
    (&["wbcCheckTrustCredentials", "NT_STATUS_LOGON_FAILURE"], MachineSecretInvalid),
    (&["wbcCheckTrustCredentials", "NT_STATUS_WRONG_PASSWORD"], MachineSecretInvalid),
    (&["wbcCheckTrustCredentials", "NT_STATUS_ACCESS_DENIED"], MachineSecretInvalid),
    (&["Join to domain is not valid: LDAP_INVALID_CREDENTIALS"], MachineSecretInvalid),
    (&["Join to domain is not valid", "Logon failure"], MachineSecretInvalid),
    (&["Join to domain is not valid", "The attempted logon is invalid"], MachineSecretInvalid),
    (&["NT_STATUS_TRUSTED_RELATIONSHIP_FAILURE"], MachineSecretInvalid),
    (&["NT_STATUS_TRUSTED_DOMAIN_FAILURE"], MachineSecretInvalid),
    (&["the trust relationship between"], MachineSecretInvalid),
    // kinit -k: what it reads is the machine's.
    (&["Preauthentication failed while getting initial credentials"], MachineSecretInvalid),
    (&["Keytab contains no suitable keys"], MachineSecretInvalid),
    (&["Key table file", "not found"], MachineSecretInvalid),
    (&["Key table entry not found"], MachineSecretInvalid),
    // The clock, which others call a wrong password.
    (&["FAST fast response is missing FX-FAST"], ClockSkew),
    (&["kinit succeeded but SPNEGO bind with Kerberos failed"], ClockSkew),
    (&["Clock skew too great"], ClockSkew),
    (&["KRB5KRB_AP_ERR_SKEW"], ClockSkew),
    (&["KRB_AP_ERR_SKEW"], ClockSkew),
    (&["NT_STATUS_TIME_DIFFERENCE_AT_DC"], ClockSkew),
    (&["WERR_TIME_SKEW"], ClockSkew),
    (&["The time at the primary domain controller is different"], ClockSkew),
    // What is said of the request.
    (&["\"workgroup\" set to", "should be"], WorkgroupWrong { expected: None }),
    (&["failed to precreate account in ou", "No such object"], OuMissing),
    (&["failed to precreate account in ou", "NT_STATUS_OBJECT_NAME_NOT_FOUND"], OuMissing),
    (&["organizational unit", "does not exist"], OuMissing),
    (&["NT_STATUS_DS_MACHINE_ACCOUNT_QUOTA_EXCEEDED"], MachineQuota),
    (&["MACHINE_ACCOUNT_QUOTA"], MachineQuota),
    (&["machine account quota"], MachineQuota),
    (&["exceeded the maximum number of computer accounts"], MachineQuota),
    // What is said of the account.
    (&["NT_STATUS_ACCOUNT_DISABLED"], AccountDisabled),
    (&["The referenced account is currently disabled"], AccountDisabled),
    (&["NT_STATUS_ACCOUNT_EXPIRED"], AccountExpired),
    (&["The user account has expired"], AccountExpired),
    (&["NT_STATUS_PASSWORD_MUST_CHANGE"], MustChangePassword),
    (&["NT_STATUS_PASSWORD_EXPIRED"], MustChangePassword),
    (&["The user password must be changed"], MustChangePassword),
    (&["The user account password has expired"], MustChangePassword),
    (&["Password has expired"], MustChangePassword),
    (&["Password expired"], MustChangePassword),
    (&["NT_STATUS_ACCOUNT_LOCKED_OUT"], AccountLocked),
    (&["account has been automatically locked"], AccountLocked),
    (&["Clients credentials have been revoked"], AccountRevoked),
    (&["credentials have been revoked"], AccountRevoked),
    (&["NT_STATUS_ACCOUNT_RESTRICTION"], AccountRestricted),
    (&["some user account restriction"], AccountRestricted),
    (&["NT_STATUS_INVALID_LOGON_HOURS"], AccountRestricted),
    (&["NT_STATUS_INVALID_WORKSTATION"], AccountRestricted),
    (&["NT_STATUS_LOGON_TYPE_NOT_GRANTED"], AccountRestricted),
    (&["NT_STATUS_WRONG_PASSWORD"], PasswordWrongForUser),
    (&["Password incorrect"], PasswordWrongForUser),
    (&["NT_STATUS_LOGON_FAILURE"], BadCredential),
    (&["The attempted logon is invalid"], BadCredential),
    (&["WERR_LOGON_FAILURE"], BadCredential),
    (&["Invalid credentials"], BadCredential),
    (&["LDAP_INVALID_CREDENTIALS"], BadCredential),
    (&["Preauthentication failed"], BadCredential),
    (&["not found in Kerberos database"], NameUnknown),
    (&["Kerberos auth with", "not possible"], KerberosToIp),
    (&["User specified does not have administrator privileges"], NoRights),
    (&["Insufficient access"], NoRights),
    (&["LDAP_INSUFFICIENT_ACCESS"], NoRights),
    (&["INSUFFICIENT_ACCESS_RIGHTS"], NoRights),
    (&["NT_STATUS_PRIVILEGE_NOT_HELD"], NoRights),
    (&["A required privilege is not held by the client"], NoRights),
    (&["NT_STATUS_ACCESS_DENIED"], NoRights),
    (&["WERR_ACCESS_DENIED"], NoRights),
    (&["{Access Denied}"], NoRights),
    (&["NT_STATUS_USER_EXISTS"], NameTaken),
    (&["NT_STATUS_OBJECT_NAME_COLLISION"], NameTaken),
    (&["WERR_NERR_USEREXISTS"], NameTaken),
    (&["LDAP_ALREADY_EXISTS"], NameTaken),
    (&["lready exists"], NameTaken),
    // What is said of the domain controller.
    (&["failed to find DC for domain"], DcNotFound),
    (&["No logon servers are currently available"], DcNotFound),
    (&["Didn't find the ldap server!"], DcNotFound),
    (&["NT_STATUS_NO_LOGON_SERVERS"], DcNotFound),
    (&["NT_STATUS_DOMAIN_CONTROLLER_NOT_FOUND"], DcNotFound),
    (&["A domain controller for this domain was not found"], DcNotFound),
    (&["Could not find the domain controller for this domain"], DcNotFound),
    (&["NT_STATUS_NO_SUCH_DOMAIN"], DcNotFound),
    (&["The specified domain did not exist"], DcNotFound),
    (&["WERR_NO_LOGON_SERVERS"], DcNotFound),
    (&["WERR_NO_SUCH_DOMAIN"], DcNotFound),
    (&["wbcPingDc", "WBC_ERR_DOMAIN_NOT_FOUND"], DcNotFound),
    (&["checking the NETLOGON for domain", "failed"], DcNotFound),
    (&["failed to connect to AD: Operations error"], LdapRefused),
    (&["Can't contact LDAP server"], LdapRefused),
    (&["LDAP_SERVER_DOWN"], LdapRefused),
    (&["NT_STATUS_CONNECTION_REFUSED"], SmbRefused),
    (&["The transport-connection attempt was refused"], SmbRefused),
    (&["NT_STATUS_HOST_UNREACHABLE"], SmbRefused),
    (&["NT_STATUS_NETWORK_UNREACHABLE"], SmbRefused),
    (&["NT_STATUS_PORT_UNREACHABLE"], SmbRefused),
    (&["not reachable by the transport"], SmbRefused),
    // What is said of a name.
    (&["WBC_ERR_UNKNOWN_USER"], NameUnknown),
    (&["WBC_ERR_UNKNOWN_GROUP"], NameUnknown),
    (&["WBC_ERR_DOMAIN_NOT_FOUND"], NameUnknown),
    (&["NT_STATUS_NO_SUCH_USER"], NameUnknown),
    (&["NT_STATUS_NO_SUCH_GROUP"], NameUnknown),
    (&["NT_STATUS_NONE_MAPPED"], NameUnknown),
    (&["WERR_NO_SUCH_USER"], NameUnknown),
    (&["WERR_NERR_USERNOTFOUND"], NameUnknown),
    (&["The specified account does not exist"], NameUnknown),
    // Kerberos, whose trouble is often not the last word: NTLM may have been tried after it.
    (&["Cannot find KDC for realm"], KdcNotFound),
    (&["Cannot find KDC for requested realm"], KdcNotFound),
    (&["Cannot resolve network address for KDC"], KdcNotFound),
    (&["Cannot resolve servers for KDC"], KdcNotFound),
    (&["Cannot contact any KDC"], KdcUnreachable),
    (&["KDC reply did not match expectations"], RealmSpelling),
    (&["No Kerberos credentials available"], NoTicket),
    (&["No credentials cache found"], NoTicket),
    (&["NT_STATUS_IO_TIMEOUT"], Timeout),
    (&["before the time-out period expired"], Timeout),
    (&["Timelimit exceeded"], Timeout),
    (&["imed out"], Timeout),
    (&["NT_STATUS_INVALID_PARAMETER"], NoTicket),
    (&["An invalid parameter was passed to a service or function"], NoTicket),
];

/// Why a program failed, if its output has a text of the catalogue.
pub fn reason(program_output: &str) -> Option<Why> {
    RULES.iter().find_map(|(words, why)| {
        let line = program_output.lines().find(|l| words.iter().all(|w| l.contains(w)))?;
        Some(match why {
            WorkgroupWrong { .. } => WorkgroupWrong { expected: expected(line) },
            other => other.clone(),
        })
    })
}

/// `… should be 'EXAMPLE') …`: a short name of a domain, or nothing.
fn expected(line: &str) -> Option<String> {
    let name = line.split_once("should be '")?.1.split_once('\'')?.0;
    let fine = !name.is_empty() && name.len() <= 15 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fine.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/samba-4.17/", $name))
        };
    }

    fn example() -> Why {
        WorkgroupWrong { expected: Some("EXAMPLE".into()) }
    }

    #[test]
    fn real_outputs() {
        for (text, why) in [
            (fixture!("net_ads_info.dc-not-found.txt.stderr"), DcNotFound),
            (fixture!("net_ads_join.bad-password.txt"), BadCredential),
            (fixture!("net_ads_join.clock-skew-kerberos-required.txt"), BadCredential),
            (fixture!("net_ads_join.clock-skew-kerberos-required.txt.stderr"), ClockSkew),
            (fixture!("net_ads_join.clock-skew.txt.stderr"), ClockSkew),
            (fixture!("net_ads_join.dc-not-found.txt"), DcNotFound),
            (fixture!("net_ads_join.ou-missing.txt"), OuMissing),
            (fixture!("net_ads_join.workgroup-mismatch.txt"), example()),
            (fixture!("net_ads_leave.bad-password.txt"), BadCredential),
            (fixture!("net_ads_leave.bad-password.txt.stderr"), BadCredential),
            (fixture!("net_ads_testjoin.account-deleted.txt.stderr"), MachineAccountGone),
            (fixture!("net_ads_testjoin.unjoined.txt.stderr"), NotJoined),
            (fixture!("wbinfo_-P.account-deleted.txt"), DcNotFound),
            (fixture!("wbinfo_-P.account-deleted.txt.stderr"), DcNotFound),
            (fixture!("wbinfo_-a_alice_bad.txt.stderr"), PasswordWrongForUser),
            (fixture!("wbinfo_-i_nosuch.txt.stderr"), NameUnknown),
            (fixture!("wbinfo_-p.no-winbindd.txt"), WinbindDown),
            (fixture!("wbinfo_-p.no-winbindd.txt.stderr"), WinbindDown),
            (fixture!("wbinfo_-t.account-deleted.txt.stderr"), MachineSecretInvalid),
            (fixture!("wbinfo_-t.no-winbindd.txt.stderr"), WinbindDown),
        ] {
            assert_eq!(reason(text), Some(why), "{text}");
        }
        let both = [
            fixture!("net_ads_join.clock-skew-kerberos-required.txt"),
            fixture!("net_ads_join.clock-skew-kerberos-required.txt.stderr"),
        ];
        assert_eq!(reason(&both.concat()), Some(ClockSkew), "with both streams it can be told");
        for text in [
            fixture!("net_ads_info.txt"),
            fixture!("net_ads_info.clock-skew.txt"),
            fixture!("net_ads_info.dc-not-found.txt"),
            fixture!("net_ads_info.unjoined.txt"),
            fixture!("net_ads_join.clock-skew.txt"),
            fixture!("net_ads_join.ok.txt"),
            fixture!("net_ads_lookup.txt"),
            fixture!("net_ads_testjoin.account-deleted.txt"),
            fixture!("net_ads_testjoin.ok.txt"),
            fixture!("net_ads_testjoin.unjoined.txt"),
            fixture!("wbinfo_--dsgetdcname_EXAMPLE.TEST.txt"),
            fixture!("wbinfo_--online-status.txt"),
            fixture!("wbinfo_--own-domain.txt"),
            fixture!("wbinfo_--trusted-domains_--verbose.txt"),
            fixture!("wbinfo_-D_EXAMPLE.txt"),
            fixture!("wbinfo_-P.txt"),
            fixture!("wbinfo_-a_alice_bad.txt"),
            fixture!("wbinfo_-g.txt"),
            fixture!("wbinfo_-i_alice.txt"),
            fixture!("wbinfo_-i_nosuch.txt"),
            fixture!("wbinfo_-m.txt"),
            fixture!("wbinfo_-n_alice.txt"),
            fixture!("wbinfo_-p.txt"),
            fixture!("wbinfo_-r_alice.txt"),
            // Which of two causes it was is on standard error.
            fixture!("wbinfo_-t.account-deleted.txt"),
            fixture!("wbinfo_-t.no-winbindd.txt"),
            fixture!("wbinfo_-t.txt"),
            fixture!("wbinfo_-u.txt"),
        ] {
            assert_eq!(reason(text), None, "{text}");
        }
    }

    /// The catalogue as it was measured, row by row.
    #[test]
    fn every_row() {
        const RPC: &str = "Failed to join domain: failed to lookup DC info for domain 'EXAMPLE.TEST' over rpc: ";
        let rpc = |text: &str| format!("{RPC}{text}");
        for (text, why) in [
            (rpc("The attempted logon is invalid. This is either due to a bad username or authentication information."), BadCredential),
            (rpc("The referenced account is currently disabled and cannot be logged on to."), AccountDisabled),
            (rpc("The user account has expired."), AccountExpired),
            (rpc("The user password must be changed before logging on the first time."), MustChangePassword),
            (
                "ads_print_error: AD LDAP ERROR: 50 (Insufficient access): acl: spn validation failed\n\
                 Failed to join domain: User specified does not have administrator privileges"
                    .into(),
                NoRights,
            ),
            ("Failed to join domain: failed to precreate account in ou ou=Nope,dc=EXAMPLE,dc=TEST: No such object".into(), OuMissing),
            (
                "Failed to join domain: Invalid configuration (\"workgroup\" set to 'WRONG', should be 'EXAMPLE') and configuration \
                 modification was not requested"
                    .into(),
                example(),
            ),
            ("Failed to join domain: failed to find DC for domain OTHER - The request is not supported.".into(), DcNotFound),
            ("Failed to join domain: failed to connect to AD: Operations error".into(), LdapRefused),
            (rpc("The transport-connection attempt was refused by the remote system."), SmbRefused),
            (
                "kerberos_kinit_password administrator@EXAMPLE.TEST failed: Cannot contact any KDC for requested realm".into(),
                KdcUnreachable,
            ),
            (
                "gse_get_client_auth_token: gss_init_sec_context failed with [ Miscellaneous failure (see text): FAST fast response is \
                 missing FX-FAST (ldap/dc1.example.test@EXAMPLE.TEST)](2529639059)"
                    .into(),
                ClockSkew,
            ),
            (
                "ads_sasl_spnego_bind: kinit succeeded but SPNEGO bind with Kerberos failed for ldap/dc1 - user[M1$], realm[R]: The \
                 attempted logon is invalid."
                    .into(),
                ClockSkew,
            ),
            ("ads_connect: No logon servers are currently available to service the logon request.".into(), DcNotFound),
            ("Didn't find the ldap server!".into(), DcNotFound),
            ("Join to domain is not valid: NT code 0xfffffff6".into(), NotJoined),
            ("kerberos_kinit_password M1$@EXAMPLE.TEST failed: Client not found in Kerberos database".into(), MachineAccountGone),
            ("Join to domain is not valid: LDAP_INVALID_CREDENTIALS".into(), MachineSecretInvalid),
            ("Failed to leave domain: Unable to fetch domain sid: are we joined?".into(), NotJoined),
            (
                "kerberos_kinit_password administrator@EXAMPLE.TEST failed: Preauthentication failed\n\
                 Failed to leave domain: failed to connect to AD: Invalid credentials"
                    .into(),
                BadCredential,
            ),
            ("could not ping winbindd!".into(), WinbindDown),
            ("failed to call wbcGetpwnam: WBC_ERR_WINBIND_NOT_AVAILABLE".into(), WinbindDown),
            (
                "wbcCheckTrustCredentials(EXAMPLE): error code was NT_STATUS_LOGON_FAILURE (0xc000006d)\nCould not check secret".into(),
                MachineSecretInvalid,
            ),
            ("failed to call wbcPingDc: WBC_ERR_DOMAIN_NOT_FOUND".into(), DcNotFound),
            (
                "wbcAuthenticateUserEx(EXAMPLE\\alice): error code was NT_STATUS_WRONG_PASSWORD (0xc000006a, authoritative=1)".into(),
                PasswordWrongForUser,
            ),
            ("failed to call wbcLookupName: WBC_ERR_DOMAIN_NOT_FOUND".into(), NameUnknown),
            (
                "kinit: Client 'nosuch@EXAMPLE.TEST' not found in Kerberos database while getting initial credentials".into(),
                NameUnknown,
            ),
            (
                "kinit: Client 'M1$@EXAMPLE.TEST' not found in Kerberos database while getting initial credentials".into(),
                MachineAccountGone,
            ),
            ("kinit: Password incorrect while getting initial credentials".into(), PasswordWrongForUser),
            ("kinit: Client's credentials have been revoked while getting initial credentials".into(), AccountRevoked),
            ("kinit: Cannot find KDC for realm \"OTHER.TEST\" while getting initial credentials".into(), KdcNotFound),
            ("kinit: Cannot contact any KDC for realm 'EXAMPLE.TEST' while getting initial credentials".into(), KdcUnreachable),
            ("kinit: KDC reply did not match expectations while getting initial credentials".into(), RealmSpelling),
            (
                "Kerberos auth with 'alice' to access '10.99.1.1' not possible\nsession setup failed: NT_STATUS_ACCESS_DENIED".into(),
                KerberosToIp,
            ),
            ("session setup failed: NT_STATUS_INVALID_PARAMETER".into(), NoTicket),
            (rpc("An invalid parameter was passed to a service or function."), NoTicket),
        ] {
            assert_eq!(reason(&text), Some(why), "{text}");
        }
    }

    #[test]
    fn names_of_codes() {
        for (code, why) in [
            ("LOGON_FAILURE", BadCredential),
            ("WRONG_PASSWORD", PasswordWrongForUser),
            ("ACCOUNT_DISABLED", AccountDisabled),
            ("ACCOUNT_EXPIRED", AccountExpired),
            ("ACCOUNT_RESTRICTION", AccountRestricted),
            ("PASSWORD_MUST_CHANGE", MustChangePassword),
            ("PASSWORD_EXPIRED", MustChangePassword),
            ("ACCOUNT_LOCKED_OUT", AccountLocked),
            ("ACCESS_DENIED", NoRights),
            ("TIME_DIFFERENCE_AT_DC", ClockSkew),
            ("NO_LOGON_SERVERS", DcNotFound),
            ("HOST_UNREACHABLE", SmbRefused),
            ("CONNECTION_REFUSED", SmbRefused),
            ("NO_TRUST_SAM_ACCOUNT", MachineAccountGone),
            ("NO_TRUST_LSA_SECRET", NotJoined),
            ("TRUSTED_RELATIONSHIP_FAILURE", MachineSecretInvalid),
            ("DS_MACHINE_ACCOUNT_QUOTA_EXCEEDED", MachineQuota),
            ("USER_EXISTS", NameTaken),
            ("NO_SUCH_USER", NameUnknown),
            ("NONE_MAPPED", NameUnknown),
            ("IO_TIMEOUT", Timeout),
        ] {
            assert_eq!(reason(&format!("session setup failed: NT_STATUS_{code}")), Some(why), "{code}");
        }
        // Samba's words for some of them, and others' words.
        for (text, why) in [
            ("The user account has been automatically locked because too many invalid logon attempts", AccountLocked),
            ("You have exceeded the maximum number of computer accounts you are allowed to create in this domain.", MachineQuota),
            ("The specified account already exists.", NameTaken),
            ("failed to join domain 'R' over rpc: {Access Denied} A process has requested access to an object", NoRights),
            ("kinit: Preauthentication failed while getting initial credentials", MachineSecretInvalid),
            ("kinit: Clock skew too great while getting initial credentials", ClockSkew),
            ("kinit: Password has expired while getting initial credentials", MustChangePassword),
            ("do_connect: Connection to dc1 failed (Error NT_STATUS_IO_TIMEOUT)", Timeout),
            ("ldap_simple_bind: Can't contact LDAP server", LdapRefused),
        ] {
            assert_eq!(reason(text), Some(why), "{text}");
        }
        for text in ["", "Join is OK", "session setup failed: NT_STATUS_NOT_SUPPORTED"] {
            assert_eq!(reason(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_more_telling_wins() {
        let refused = "kerberos_kinit_password a@R failed: Cannot contact any KDC for requested realm\n\
                       Failed to join domain: failed to lookup DC info for domain 'R' over rpc: The attempted logon is invalid.";
        assert_eq!(reason(refused), Some(BadCredential));
        let wrong = |expected: &str| reason(&format!("(\"workgroup\" set to 'X', should be '{expected}')"));
        assert_eq!(wrong("EXAMPLE"), Some(example()));
        assert_eq!(wrong("a b\u{1b}[31m"), Some(WorkgroupWrong { expected: None }));
        assert_eq!(serde_json::to_string(&example()).expect("plain data"), r#"{"workgroup-wrong":{"expected":"EXAMPLE"}}"#);
        assert_eq!(serde_json::to_string(&MachineSecretInvalid).expect("plain data"), r#""machine-secret-invalid""#);
        // Each rule can be reached: nothing before it says something else of its words alone.
        for (words, why) in RULES {
            assert_eq!(reason(&words.join(" ")).as_ref(), Some(why), "{words:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), tail in "[' a-zä)]{0,20}") {
            let _ = reason(&text);
            let _ = reason(&format!("\"workgroup\" set to 'x', should be {tail}"));
        }
    }
}
