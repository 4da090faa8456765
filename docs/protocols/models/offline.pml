/* Offline mode (offline.md): envelope, NRR, s_T, ACK between the nodes, the TTP only when something goes wrong.
 * Variants, mutants and properties: README.md. The TTP is ttp.pml, the same machine as in online mode.
 *
 * One bit a fact; signatures and hashes are perfect. The adversary owns the wire between the nodes: what once left
 * may arrive later, several times, or never. The way to the TTP is resilient within the margins (see Clock).
 *
 * Who is dishonest: BAD_S (sender), BAD_R (recipient, with its domain CA); without either, strangers only.
 * BAD_T: the TTP itself, with a ledger that witnesses hold to being append-only.
 */
#include "ttp.pml"

mtype = { NEW, SENT, RELEASED, LODGING, ACKED, ABORTING, RECOVERED, RECEIPTED, S_FAILED };     /* sender */
mtype = { SIGNED, HAVE, DELIVERED, R_FAILED };                                 /* recipient, after NEW */

mtype ss[N], rs[N];                     /* durable: the state of either node */
bool s_nrr[N], s_ack[N];                /* durable: what the sender's node has stored */
bool wire[N];                           /* an envelope is about to arrive */
bool nrr_w[N], key_w[N], ack_w[N];      /* NRR, s_T, ACK have left: they are the wire's now */
bool near;                              /* `direct_until` has passed */
bool seen;                              /* the honest party's view of the ledger shows the notice */

#ifdef TRANSPLANT                       /* exchange 1 was made by the adversary, for an alias of the recipient */
#define HONEST_N 1
#else
#define HONEST_N N
#endif

#ifdef BAD_T
bool leaf_good[N], leaf_junk[N];        /* COMPLETED for hM in the witnessed ledger; masked share good, or junk */
bool leaf_other[N];                     /* EXPIRED, INVALID or ABORTED for hM */
bool to_S[N], to_R[N];                  /* the TTP answers this party */
#ifdef M_NO_MASK
#define traded(x) (leaf_good[x] || leaf_junk[x])
#else
#define traded(x) leaf_good[x]
#endif
#define proof(x) ((leaf_good[x] || leaf_junk[x]) && leaf_other[x])
#else
#define traded(x) (led[x] == COMPLETED && pub[x] && !revoked_first[x])
#define proof(x) false
#endif

/* What an arbiter accepts from the adversary, who has whatever has left. */
#ifdef M_BARE
#define receipt(x) (nrr_w[x] && (ack_w[x] || traded(x) || (led[x] != ABORTED && led[x] != INVALID)))
#else
#define receipt(x) (nrr_w[x] && (ack_w[x] || traded(x)))
#endif
/* What an arbiter accepts, whenever it may be, from the honest sender: what it has stored and what it is fed. */
#define shows(x) (ss[x] == RECEIPTED && s_nrr[x] && (traded(x) || (s_ack[x] && (anchor_S[x] || !notice))))
#define has_read(x) (rs[x] == DELIVERED)
#ifdef BAD_R
#define readable(x) (x < HONEST_N && (key_w[x] || leak[x]))
#else
#define readable(x) (rs[x] == HAVE || rs[x] == DELIVERED)
#endif
/* Honest and exposed: within the margin it lodges, or within the notice it anchors. */
#ifdef BAD_R
#define exposed(x) (ss[x] == RELEASED || ss[x] == ACKED)
#else
#ifdef BAD_S
#define exposed(x) (rs[x] == SIGNED || rs[x] == HAVE || (rs[x] == DELIVERED && !anchor_R[x] && !traded(x)))
#else
#define exposed(x) false                /* honest parties revoke nothing */
#endif
#endif
#if N > 1
#define nobody_exposed (!exposed(0) && !exposed(1))
#define nobody_released (ss[0] != RELEASED && ss[1] != RELEASED)
#else
#define nobody_exposed (!exposed(0))
#define nobody_released (ss[0] != RELEASED)
#endif

#ifdef M_NO_MARGIN
#define EARLY_ENOUGH true
#else
#define EARLY_ENOUGH (!near)
#endif
#ifdef M_NO_VIEW
#define NO_NOTICE true
#else
#define NO_NOTICE (!seen)
#endif
#ifdef M_LATE_KEY
#define LATE_KEY true
#else
#define LATE_KEY (!seen)
#endif
#ifdef M_NRR_OF_ANOTHER
#define NRR_CAME(x) (nrr_w[0] || nrr_w[1])
#else
#define NRR_CAME(x) nrr_w[x]
#endif

/* --- the sender's node: the SMTP session, and the timer, at the same time ------------------------------------------ */
proctype Session(byte x) {
again: {
end:    do
        :: ss[x] == NEW -> ss[x] = SENT                         /* S1 to S3: letter, M, NRO in one commit; then it may leave */
        :: ss[x] == SENT && !wire[x] && !nrr_w[x] -> wire[x] = true     /* the envelope, always the same */
#ifdef M_RELEASE_FIRST
        :: ss[x] == SENT && NRR_CAME(x) && EARLY_ENOUGH && NO_NOTICE ->
            key_w[x] = true;                                    /* s_T leaves, and is noted after that */
            d_step { ss[x] == SENT -> ss[x] = RELEASED; s_nrr[x] = true }
#else
#ifdef M_TOCTOU
        :: ss[x] == SENT && NRR_CAME(x) && EARLY_ENOUGH && NO_NOTICE ->         /* the test, and then the commit */
            d_step { ss[x] == SENT -> ss[x] = RELEASED; s_nrr[x] = true }
#else
#ifdef M_NRR_OUTSIDE
        :: d_step { ss[x] == SENT && NRR_CAME(x) && EARLY_ENOUGH && NO_NOTICE -> ss[x] = RELEASED };
            key_w[x] = true;
            s_nrr[x] = true
#else
        /* S4, S5: NRR verified; SENT -> RELEASED, NRR stored, now < direct_until, no notice seen: one commit ... */
        :: d_step { ss[x] == SENT && NRR_CAME(x) && EARLY_ENOUGH && NO_NOTICE -> ss[x] = RELEASED; s_nrr[x] = nrr_w[x] }
#endif
#endif
#endif
        /* ... before s_T leaves; right before, and in a later session, the state is looked at again (S5, S7). */
        :: d_step { ss[x] == RELEASED && !key_w[x] -> key_w[x] = true }
#ifdef M_RESEND
        :: d_step { ss[x] == S_FAILED && s_nrr[x] && !key_w[x] -> key_w[x] = true }
#endif
        /* S5: too late, or a notice: the NRR is stored and goes to the TTP, s_T stays. */
        :: d_step { ss[x] == SENT && nrr_w[x] && (near || seen) -> ss[x] = LODGING; s_nrr[x] = true }
        :: d_step { ss[x] == RECOVERED && nrr_w[x] && !s_nrr[x] -> s_nrr[x] = true }    /* S9: it asks R, too */
#ifndef BAD_T
        /* NRR and NRD from the feed, in whatever state. */
        :: d_step { ss[x] != NEW && ss[x] != RECEIPTED && traded(x) -> ss[x] = RECEIPTED; s_nrr[x] = true }
#endif
        /* S8: an ACK is verified and stored in every state. */
        :: d_step { ss[x] != RECEIPTED && nrr_w[x] && ack_w[x] && !s_ack[x] -> ss[x] = ACKED; s_nrr[x] = true; s_ack[x] = true }
        od
    } unless { death ? _ };
    goto again
}

#ifndef BAD_T
#ifdef M_NO_LODGE
#define LODGES(x) (ss[x] == LODGING)
#else
#define LODGES(x) (ss[x] == LODGING || (ss[x] == RELEASED && s_nrr[x]))
#endif
#ifdef M_NO_ABORTING
#define ABORTS(x) (ss[x] == SENT)
#else
#define ABORTS(x) (ss[x] == ABORTING)
#endif
#define BATCHED(x) (ss[x] == ACKED)

proctype Timer(byte x) {
    mtype o;
again: {
end:    do
#ifndef M_NO_ABORTING
        :: d_step { ss[x] == SENT -> ss[x] = ABORTING }         /* S6: it waited long enough; a commit, and then: */
#endif
#ifdef M_NO_ANCHOR
        :: BATCHED(x) -> ss[x] = RECEIPTED
#endif
#ifdef M_NO_LODGE
        :: d_step { ss[x] == RELEASED && clk -> ss[x] = S_FAILED }
#endif
        :: atomic {
            ANSWERED(S(x)) && (ABORTS(x) || LODGES(x) || BATCHED(x) || ss[x] == RECOVERED) ->
            if
            :: ABORTS(x) -> o = ABORT; abort_signed[x] = true   /* the abort leaves */
            :: LODGES(x) -> o = COMPLETE                        /* S7: the ACK didn't come in time; S5: LODGING */
            :: BATCHED(x) -> o = ANCHOR                         /* S8: off the mail's path; evidence only after it */
            :: ss[x] == RECOVERED && s_nrr[x] -> o = COMPLETE   /* S9 */
            :: ss[x] == RECOVERED && !s_nrr[x] -> o = STATUS
            fi;
            ask(S(x), o, x, x, escrow_in[x]);
            o = NONE };
            atomic {
                ANSWERED(S(x));
                if
                :: reply[S(x)] == COMPLETED -> ss[x] = RECEIPTED; s_nrr[x] = true       /* an abort's answer, too */
                :: DECIDED(reply[S(x)]) && reply[S(x)] != COMPLETED && !s_ack[x] -> ss[x] = S_FAILED
                :: !DECIDED(reply[S(x)]) && BATCHED(x) && anchor_S[x] -> ss[x] = RECEIPTED
                :: else                 /* no answer, unknown, an error: again. An ACK goes before another end */
                fi;
                reply[S(x)] = NONE
            }
        od
    } unless { atomic { death ? _ -> reply[S(x)] = NONE } };
    goto again
}
#else
proctype Timer(byte x) {                /* the same, where the TTP does what it likes: leaves are what is believed */
end: do
    :: d_step { ss[x] == SENT -> ss[x] = ABORTING }
    :: d_step { (ss[x] == ABORTING || ss[x] == RELEASED || ss[x] == LODGING) && to_S[x] && leaf_good[x] && nrr_w[x] ->
        ss[x] = RECEIPTED; s_nrr[x] = true }
    :: d_step { (ss[x] == ABORTING || ss[x] == RELEASED || ss[x] == LODGING) && to_S[x] && leaf_other[x] -> ss[x] = S_FAILED }
    :: d_step { ss[x] == ACKED -> anchor_S[x] = true; ss[x] = RECEIPTED }
    od
}
#endif

#ifdef RESTORE_S
/* The sender's node is set up again from a backup that was made while the exchange was SENT (S9). */
proctype Restore(byte x) {
    d_step {
#ifdef LATE
        ss[x] == RELEASED ->            /* what was committed since is lost, NRR and release too */
#else
        (ss[x] == SENT || ss[x] == ABORTING || ss[x] == S_FAILED) && !s_nrr[x] ->
#endif
        s_nrr[x] = false; s_ack[x] = false;
#ifdef M_RESTORED_AS_RELEASED
        ss[x] = RELEASED
#else
#ifdef M_RESTORED_AS_SENT
        ss[x] = SENT
#else
        ss[x] = RECOVERED               /* S9: status and complete only */
#endif
#endif
    }
}
#endif

/* --- the recipient's node: its listener, and its timer ----------------------------------------------------------- */
proctype Listener(byte x) {
again: {
end:    do
        :: rs[x] == NEW && wire[x] ->
            wire[x] = false;
            if
            :: !near ->                                         /* R1: everything was checked */
#ifdef M_NO_WRITE_AHEAD
                nrr_w[x] = true;                                /* the NRR leaves, and is committed after that */
#endif
#ifdef M_SIGNS_IN_NOTICE
                rs[x] = SIGNED
#else
                if                                              /* R2: envelope, NRO and NRR in one commit ... */
                :: d_step { !seen -> rs[x] = SIGNED }           /* in which no notice for the origin key is seen */
                :: seen
                fi
#endif
            :: true                                             /* refused: nothing changed */
            fi
        :: rs[x] == SIGNED && !nrr_w[x] -> nrr_w[x] = true      /* ... before the NRR leaves; never a second one */
        :: rs[x] != NEW && wire[x] -> wire[x] = false           /* known: the stored NRR again */
#ifdef M_ACK_FIRST
        :: rs[x] == SIGNED && key_w[x] ->
            ack_w[x] = true;
            d_step { rs[x] == SIGNED -> rs[x] = HAVE }
#else
        :: d_step { rs[x] == SIGNED && key_w[x] -> rs[x] = HAVE }       /* R5: s_T opens com_T, is durable */
        /* R7: also after a token of no trade; under a notice for the origin key only if the NRO could still be anchored */
        :: d_step { rs[x] == R_FAILED && key_w[x] && LATE_KEY -> rs[x] = HAVE }
#endif
        :: rs[x] == DELIVERED && !ack_w[x] -> ack_w[x] = true   /* R6: opened, committed, and then the ACK leaves */
        od
    } unless { death ? _ };
    goto again
}

#ifndef BAD_T
#if defined(M_NO_ANCHOR) || !defined(REVOCATION)
#define ANCHORS(x) false                /* where nobody revokes, it plays no part */
#else
#define ANCHORS(x) (rs[x] == DELIVERED && !anchor_R[x] && !traded(x) && !effective)
#endif

proctype Trader(byte x) {
    mtype o;
again: {
end:    do
        :: rs[x] == HAVE -> rs[x] = DELIVERED
        :: atomic {
            ANSWERED(R(x)) && (rs[x] == SIGNED || ANCHORS(x)) ->
            if
            :: rs[x] == SIGNED -> o = COMPLETE                  /* R4: the session ended without s_T; again and again */
            :: ANCHORS(x) -> o = ANCHOR                         /* R9: the NRO gets its time in the ledger */
            fi;
            ask(R(x), o, x, x, escrow_in[x]);
            o = NONE };
            atomic {
                ANSWERED(R(x));
                if
                :: rs[x] == SIGNED && reply[R(x)] == COMPLETED -> rs[x] = HAVE
                :: rs[x] == SIGNED && DECIDED(reply[R(x)]) && reply[R(x)] != COMPLETED -> rs[x] = R_FAILED
                :: else
                fi;
                reply[R(x)] = NONE
            }
        od
    } unless { atomic { death ? _ -> reply[R(x)] = NONE } };
    goto again
}
#else
proctype Trader(byte x) {
end: do
    :: d_step { rs[x] == SIGNED && nrr_w[x] && leaf_good[x] -> rs[x] = HAVE }   /* answered, or off a mirror, M in hand */
    :: d_step { rs[x] == SIGNED && to_R[x] && leaf_other[x] -> rs[x] = R_FAILED }
    :: rs[x] == HAVE -> rs[x] = DELIVERED
    od
}

proctype CorruptTTP(byte x) {
end: do
    :: leaf_good[x] = true
    :: leaf_junk[x] = true
    :: leaf_other[x] = true
    :: to_S[x] = true
    :: to_R[x] = true
#ifdef BAD_R
    :: wire[x] || nrr_w[x] -> leak[x] = true                    /* opens the escrow for its accomplice */
#endif
    od
}
#endif

/* --- time ------------------------------------------------------------------------------------------------------------ */
/* The timing assumption: an honest node reaches the TTP within the margin between direct_until and expires (72 h).
 * OUTAGE drops it. */
proctype Clock() {
    near = true;
#ifndef OUTAGE
    nobody_released;
#endif
    clk = true
}

#ifdef REVOCATION
/* The dishonest party's domain revokes its key. Age of the honest view + time to lodge or anchor < notice. */
proctype Notice() {
#ifdef M_NO_NOTICE
    d_step { notice = true; effective = true; seen = true }
#else
    notice = true;
    seen = true;
    nobody_exposed;
    effective = true
#endif
}
#endif

/* --- the adversary: strangers, the wire, and whichever party is dishonest ------------------------------------------ */
#ifdef BAD_R
#define KNOWS_NRR(n) (nrr_w[n] || wire[n] || (n) >= HONEST_N)
#else
#define KNOWS_NRR(n) (nrr_w[n] || (n) >= HONEST_N)
#endif

/* It picks an exchange and a request: what it asks must be signed, but it may mix whatever it knows. */
#if N > 1
#define ANY(x) if :: x = 0 :: x = 1 fi
#else
#define ANY(x) x = 0
#endif

proctype Adversary() {
    byte x, mm, nn, ee; mtype o;
end: do
#ifndef BAD_T
    :: atomic {
        ANSWERED(Z) -> ANY(x); mm = x; nn = x; ee = escrow_in[x];
        if
        :: KNOWS_NRR(x) -> o = COMPLETE                         /* a trade, or a replay of one */
        :: KNOWS_NRR(x) -> o = COMPLETE; ee = GARBAGE           /* with a blob that isn't M's (A8) */
#if N > 1
        :: KNOWS_NRR(x) -> o = COMPLETE; mm = 1 - x; ee = escrow_in[mm]         /* with another exchange's NRR */
        :: KNOWS_NRR(x) -> o = COMPLETE; ee = escrow_in[1 - x]                  /* with another exchange's escrow */
#endif
        :: o = ABORT                                            /* the sender's, a replay of it, or a stranger's */
        :: o = STATUS
#ifdef BAD_R
        :: KNOWS_NRR(x) -> o = REFUSE                           /* also after reading (A1) */
#endif
        fi;
        d_step { puts(o, mm, nn, ee); o = NONE; x = 0; mm = 0; nn = 0; ee = 0 } }
#endif
    :: atomic { ANY(x);
        if
#ifdef BAD_S
        :: !wire[x] -> wire[x] = true                           /* an envelope as often as it likes, or never */
        :: !key_w[x] -> key_w[x] = true                         /* the right s_T, at any time, or never; a wrong one
                                                                   doesn't open com_T: it changes nothing */
#endif
#ifdef BAD_R
        :: KNOWS_NRR(x) && !nrr_w[x] -> nrr_w[x] = true         /* it signs, or never */
        :: readable(x) && !ack_w[x] -> ack_w[x] = true          /* it acknowledges, or never; an ACK names s_T */
#endif
        :: true
        fi; x = 0 }
    od
}

init {
    byte x;
    atomic {
        for (x : 0 .. N - 1) {
            led[x] = OPEN; ss[x] = NEW; rs[x] = NEW; good_escrow[x] = true; escrow_in[x] = x;
#ifdef BAD_S
            abort_signed[x] = true;
#if N == 1
            if :: good_escrow[x] = false :: true fi;
#endif
#endif
#ifdef BAD_R
            refuse_signed[x] = true;
#endif
        };
#ifdef TRANSPLANT
        abort_signed[1] = true;
        if :: escrow_in[1] = 0 :: true fi;
#endif
        for (x : 0 .. HONEST_N - 1) {
#ifndef BAD_S
            run Session(x); run Timer(x);
#endif
#ifndef BAD_R
            run Listener(x); run Trader(x);
#endif
#ifdef BAD_T
            run CorruptTTP(x);
#else
#ifndef BAD_S
            run Worker(S(x));
#endif
#ifndef BAD_R
            run Worker(R(x));
#endif
#endif
        };
#ifndef BAD_T
#ifdef BAD_R
        run Worker(Z);
#endif
        run Clock();
#endif
        run Adversary();
#if CRASHES > 0
        run Reaper();
#endif
#ifdef REVOCATION
        run Notice();
#endif
#ifdef RESTORE_S
        run Restore(0);
#endif
        x = 0
    }
}

/* --- safety ------------------------------------------------------------------------------------------------------------ */
ltl safe { [] !(two_outcomes || early) }
ltl one_outcome { [] !two_outcomes }
ltl log_first { [] !early }
ltl stable { [] (led[0] == COMPLETED -> [] (led[0] == COMPLETED)) }
ltl exclusive { [] ((ss[0] == RELEASED -> [] !(ss[0] == ABORTING)) && (ss[0] == ABORTING -> [] !(ss[0] == RELEASED))) }
ltl kept { [] ((ss[0] == ABORTING || ss[0] == S_FAILED || ss[0] == RECOVERED) && !key_w[0] -> [] !key_w[0]) }
ltl no_sabotage { [] !(led[0] == INVALID) }
/* --- fairness ---------------------------------------------------------------------------------------------------------- */
ltl fair_R { [] (receipt(0) -> <> (has_read(0) || proof(0))) }
ltl fair_S { [] (readable(0) -> <> [] shows(0)) }
ltl origin { [] (has_read(0) -> <> [] (anchor_R[0] || traded(0))) }
ltl settled { [] (ss[0] == RELEASED -> <> (ss[0] == RECEIPTED)) }
ltl loser { [] (ss[0] == ABORTING && told[0] == COMPLETED -> <> (ss[0] == RECEIPTED)) }
#if N > 1
/* At any instant: who could show a receipt is met by who can ask for the key, and the other way round. */
#ifdef BAD_R
#define even(x) (!readable(x) || traded(x) || (s_nrr[x] && (ss[x] == RELEASED || ss[x] == ACKED || ss[x] == RECEIPTED)))
#else
#define even(x) (!receipt(x) || readable(x) || (rs[x] == SIGNED && traded(x)))
#endif
ltl even_now { [] (even(0) && even(1)) }
#endif
/* --- timeliness -------------------------------------------------------------------------------------------------------- */
ltl timely_S { <> (ss[0] == RECEIPTED || ss[0] == S_FAILED) }
ltl timely_R { [] (rs[0] == SIGNED -> <> (has_read(0) || rs[0] == R_FAILED)) }
/* --- reachability: each of these must be violated ---------------------------------------------------------------------- */
ltl never_receipt { [] !shows(0) }
ltl never_read { [] !has_read(0) }
ltl never_both { [] !(readable(0) && receipt(0)) }
ltl never_direct { [] !(ss[0] == RECEIPTED && has_read(0) && led[0] == OPEN) }
ltl never_aborting { [] !(ss[0] == ABORTING && told[0] == COMPLETED) }
