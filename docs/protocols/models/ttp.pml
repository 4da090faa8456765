/* The TTP: one machine for all modes, one row for each exchange (online.md T1 to T9, ledger.md L5 to L8).
 * Included by online.pml and offline.pml; variants, mutants and properties stand in README.md.
 *
 * Each client has a connection and a worker of its own: requests are concurrent in all but the transaction.
 * A process dies between any two of its steps and keeps nothing but what is marked durable.
 */

#ifndef N
#define N 1                             /* exchanges that run in parallel */
#endif
#ifndef CRASHES
#define CRASHES 1                       /* deaths of honest processes in a run, anywhere */
#endif

#define S(x) (x)                        /* client: the sender of exchange x */
#define R(x) (N + (x))                  /* client: the recipient of exchange x */
#define Z (2 * N)                       /* client: the adversary: strangers, and whichever party is dishonest */
#define CLIENTS (2 * N + 1)
#define GARBAGE N                       /* a blob that no manifest names as its escrow */
#define NONE 0

mtype = { OPEN, COMPLETED, EXPIRED, INVALID, ABORTED, REFUSED, UNKNOWN, ERROR };        /* outcomes, answers */
mtype = { COMPLETE, ABORT, REFUSE, STATUS, ANCHOR };                                    /* operations */

/* --- what the manifests say; chosen once, before anything runs ------------------------------------------- */
bool good_escrow[N];                    /* E_T of this exchange's maker opens to its com_T */
byte escrow_in[N];                      /* whose E_T the manifest names: another's is a transplant (F1) */

/* --- durable: database and ledger ------------------------------------------------------------------------- */
mtype led[N];                           /* outcome of hM; OPEN is the absence of a row */
bool pub[N];                            /* it stands under a signed checkpoint, cosigned where witnesses are configured */
bool anchor_S[N], anchor_R[N];          /* digests of NRO, NRR, ACK in the ledger, from either side, in time */
bool revoked_first[N];                  /* by ledger time a key was revoked before the trade: no arbiter takes the NRD */
bool notice, effective;                 /* the dishonest party's domain revoked its key; the notice (72 h) has passed */
bool clk;                               /* ledger time has reached `expires` */

/* --- signatures that exist: nobody forges one, whoever saw one can show it again ------------------------- */
bool abort_signed[N], refuse_signed[N];

/* --- connections: volatile. A worker that dies loses its answer; asking again is always possible ------------ */
mtype op[CLIENTS];                      /* what is asked, until it is answered */
byte about[CLIENTS];                    /* which M */
bool opens[CLIENTS];                    /* T5: its E_T opens to its com_T */
mtype reply[CLIENTS];
#ifdef M_RACE
mtype before[CLIENTS];
#endif
#ifdef M_STATUS_OUTSIDE
bool barred[CLIENTS];
#endif

/* --- watched by the properties ------------------------------------------------------------------------------ */
mtype told[N];                          /* the first outcome that anybody was told */
bool two_outcomes;                      /* somebody was told another one */
bool early;                             /* s_T left before its own exchange was COMPLETED under a checkpoint */
bool leak[N];                           /* s_T is with the adversary's client */

/* --- crashes: who takes the offer dies at the step where it stands ---------------------------------------- */
chan death = [0] of { bit };
proctype Reaper() {
#if CRASHES > 1
    death ! true;
#endif
    death ! true                        /* a death in an idle state changes nothing: so this may be none at all */
}

#define DECIDED(t) ((t) == COMPLETED || (t) == EXPIRED || (t) == INVALID || (t) == ABORTED || (t) == REFUSED)

/* T9: the answer leaves; a COMPLETED takes with it the share that was in the escrow of that manifest. */
inline give(c, mm, token) {
    reply[c] = token;
    if
    :: DECIDED(token) ->
        if
        :: told[mm] == NONE -> told[mm] = token
        :: told[mm] != NONE && told[mm] != token -> two_outcomes = true
        :: else
        fi
    :: else
    fi;
    if
    :: token == COMPLETED && escrow_in[mm] != GARBAGE ->
        if :: led[escrow_in[mm]] != COMPLETED || !pub[escrow_in[mm]] -> early = true :: else fi;
#ifdef BAD_R
        if :: c == Z -> leak[escrow_in[mm]] = true :: else fi
#else
        skip
#endif
    :: else
    fi
}

/* A request arrives, with M, the NRR of exchange nn and the E_T of exchange ee: T1 to T5, outside the transaction. */
inline arrives(c, o, mm, nn, ee) {
    if
#ifdef M_NO_IDEM
    :: o == COMPLETE && DECIDED(led[mm]) && pub[mm] -> reply[c] = ERROR
    :: DECIDED(led[mm]) && pub[mm] && o == ABORT || DECIDED(led[mm]) && pub[mm] && o == STATUS -> give(c, mm, led[mm])
#else
    :: DECIDED(led[mm]) && pub[mm] && (o == COMPLETE || o == ABORT || o == STATUS) ->
        give(c, mm, led[mm])                                            /* T1: the stored token, for ever */
#endif
    :: else ->
        if
        :: o == COMPLETE && nn != mm -> reply[c] = ERROR                /* T3: the NRR names hM */
#ifndef M_NO_HASH
        :: o == COMPLETE && nn == mm && ee != escrow_in[mm] -> reply[c] = ERROR         /* T4: E_T is M's */
#endif
        :: o == ABORT && !abort_signed[mm] -> reply[c] = ERROR          /* the sender's signature */
        :: o == REFUSE && !refuse_signed[mm] -> reply[c] = ERROR        /* the recipient's */
        :: else ->
            about[c] = mm;
#ifdef M_UNBOUND
            opens[c] = (o == COMPLETE && good_escrow[mm] && ee == escrow_in[mm]);
#else
            /* T5: info and com_T hold hC, so a transplanted escrow doesn't open */
            opens[c] = (o == COMPLETE && good_escrow[mm] && ee == escrow_in[mm] && escrow_in[mm] == mm);
#endif
#ifdef M_RACE
            before[c] = led[mm];
#endif
#ifdef M_STATUS_OUTSIDE
            barred[c] = effective;
#endif
            op[c] = o
        fi
    fi
}

#ifdef M_RACE
#define STATE(c) before[c]
#else
#define STATE(c) led[about[c]]
#endif
#ifdef M_STATUS_OUTSIDE
#define BARRED(c) barred[c]
#else
#define BARRED(c) effective
#endif

/* T6, T7: one transaction; state, time and certificate status are read in here. Its end is the commit point. */
inline transact(c) {
    if
    :: op[c] == ANCHOR ->
        if
        :: c < N && !effective -> anchor_S[about[c]] = true
        :: c >= N && !effective -> anchor_R[about[c]] = true
        :: else
        fi
    :: op[c] == REFUSE ->
#ifdef M_REFUSE_FINAL
        if :: STATE(c) == OPEN -> led[about[c]] = REFUSED :: else fi
#else
        skip                                                            /* recorded: a statement, no outcome (A1) */
#endif
    :: op[c] == ABORT && STATE(c) == OPEN -> led[about[c]] = ABORTED
    :: op[c] == STATUS && STATE(c) == OPEN && clk -> led[about[c]] = EXPIRED
    :: op[c] == COMPLETE && STATE(c) == OPEN && clk -> led[about[c]] = EXPIRED
    :: op[c] == COMPLETE && STATE(c) == OPEN && !clk ->
        if
        :: BARRED(c)                                                    /* revocation in force: an error, no state */
        :: !BARRED(c) && opens[c] -> led[about[c]] = COMPLETED; revoked_first[about[c]] = effective
        :: !BARRED(c) && !opens[c] -> led[about[c]] = INVALID
        fi
    :: else                                                             /* decided: the loser gets the winner's token */
    fi
}

inline closed(c) {                      /* the connection ends */
    opens[c] = false; about[c] = 0; op[c] = NONE
#ifdef M_RACE
    ; before[c] = NONE
#endif
#ifdef M_STATUS_OUTSIDE
    ; barred[c] = false
#endif
}

inline sign_tail() {                    /* ledger.md L8: what was committed gets its checkpoint before anything is served */
    pub[0] = (led[0] != OPEN)
#if N > 1
    ; pub[1] = (led[1] != OPEN)
#endif
}

proctype Worker(byte c) {
again: {
end:    do
        :: op[c] != NONE ->
#ifdef M_REPLY_FIRST
            d_step {
                if
                :: op[c] == COMPLETE && opens[c] && led[about[c]] == OPEN && !clk -> give(c, about[c], COMPLETED)
                :: else
                fi
            };
#endif
            d_step { transact(c) };
            d_step {
#ifndef M_NO_COSIGN
                pub[about[c]] = (led[about[c]] != OPEN);                /* T8 */
#endif
                if
                :: led[about[c]] != OPEN && op[c] != ANCHOR && op[c] != REFUSE -> give(c, about[c], led[about[c]])
                :: led[about[c]] == OPEN && op[c] == COMPLETE -> reply[c] = ERROR
                :: else -> reply[c] = UNKNOWN                           /* which is no evidence */
                fi;
#ifdef M_NO_COSIGN
            };
            d_step {
                pub[about[c]] = (led[about[c]] != OPEN);
#endif
                closed(c)
            }
        od
    } unless { atomic { death ? _ -> closed(c); sign_tail() } };
    goto again
}

/* The adversary asks. Where it gains nothing from the TTP's delay (it can wait by itself), all is one step; only the
 * dishonest recipient's trade leaves room between check and transaction, for its domain's revocation. */
#ifdef BAD_R
#define IN_STEPS(o) ((o) == COMPLETE)
#else
#define IN_STEPS(o) false
#endif
inline at_once(c) {
    transact(c);
    pub[about[c]] = (led[about[c]] != OPEN);
    if :: DECIDED(led[about[c]]) && op[c] != REFUSE && op[c] != ANCHOR -> give(c, about[c], led[about[c]]) :: else fi;
    closed(c)
}
inline puts(o, mm, nn, ee) {
    arrives(Z, o, mm, nn, ee);
    if :: op[Z] != NONE && !IN_STEPS(o) -> at_once(Z) :: else fi;
    reply[Z] = NONE
}

/* A client asks; then it waits for the answer or for the connection's end (reply is NONE then: ask again). */
inline ask(c, o, mm, nn, ee) {
    d_step {
        op[c] == NONE -> reply[c] = NONE; arrives(c, o, mm, nn, ee)
#ifdef AT_ONCE                          /* large models: the TTP's steps aren't told apart */
        ; if :: op[c] != NONE -> at_once(c) :: else fi
#endif
    }
}
#define ANSWERED(c) (op[c] == NONE)

#ifdef RESTORE
/* The TTP's disk dies and a backup takes its place: what no witness has cosigned is gone (A6). Older than what
 * was cosigned it can't become: at start it asks its witnesses, and refuses to run. */
proctype Disaster() {
    d_step {
        if :: !pub[0] -> led[0] = OPEN; revoked_first[0] = false :: else fi
#if N > 1
        ; if :: !pub[1] -> led[1] = OPEN; revoked_first[1] = false :: else fi
#endif
    }
}
#endif
