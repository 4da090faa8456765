/* Online mode (online.md): the TTP trades s_T for the NRR. Variants, mutants and properties: README.md.
 *
 * One bit a fact; signatures and hashes are perfect. The adversary owns the wire between the nodes: it delays,
 * drops, repeats and reorders envelopes and replies. The way to the TTP is resilient.
 *
 * Who is dishonest: BAD_S (sender), BAD_R (recipient, with its domain CA); without either, strangers only.
 * BAD_T: the TTP itself, with a ledger that witnesses hold to being append-only.
 */
#include "ttp.pml"

mtype = { NEW, QUEUED, SENT, PEER_REFUSED, RECEIPTED, S_FAILED };      /* sender; S_FAILED: EXPIRED, INVALID, ABORTED */
mtype = { SIGNED, HAVE, DELIVERED, FAULTY, R_FAILED };                 /* recipient, after NEW */

mtype ss[N], rs[N];                     /* durable: the state of either node */
bool wire[N], said_250[N], said_550[N]; /* envelope and replies under way between the nodes */
bool nrr_out[N];                        /* the NRR has left the recipient's node: it can be replayed */

#ifdef BAD_S
#define SAY(reply) skip                 /* nobody who would act on it */
#else
#define SAY(reply) reply = true
#endif
#ifdef TRANSPLANT                       /* exchange 1 was made by the adversary, for an alias of the recipient */
#define HONEST_N 1
#else
#define HONEST_N N
#endif

/* What an arbiter accepts as a receipt: NRR and NRD, the leaf under a checkpoint, no key revoked before it. */
#ifdef BAD_T
#ifdef M_NO_MASK
#define receipt(x) (nrr_out[x] && (leaf_good[x] || leaf_junk[x]))
#else
#define receipt(x) (nrr_out[x] && leaf_good[x])                 /* the arbiter recomputes the masked s_T (V5) */
#endif
#else
#define receipt(x) (led[x] == COMPLETED && pub[x] && !revoked_first[x])
#endif
#define has_read(x) (rs[x] == DELIVERED || rs[x] == FAULTY)
#define readable(x) (rs[x] == HAVE || has_read(x) || (x < HONEST_N && leak[x]))

#ifndef BAD_T
/* --- the sender's node -------------------------------------------------------------------------------------- */
proctype Sender(byte x) {
again: {
end:    do
        :: ss[x] == NEW -> ss[x] = QUEUED                       /* S1 to S3: one commit, then 250 to the program */
        :: ss[x] == QUEUED && !wire[x] && !said_250[x] && !said_550[x] && !pub[x] && !clk ->
            wire[x] = true                                      /* S4: the same envelope, again and again */
        :: d_step { ss[x] == QUEUED && said_250[x] -> said_250[x] = false; ss[x] = SENT }
        :: d_step { ss[x] == QUEUED && said_550[x] -> said_550[x] = false; ss[x] = PEER_REFUSED }
        :: d_step {                                             /* S5: from the feed, verified, one commit with its cursor */
            (ss[x] == QUEUED || ss[x] == SENT || ss[x] == PEER_REFUSED) && pub[x] ->
            if
            :: led[x] == COMPLETED && !revoked_first[x] -> ss[x] = RECEIPTED
            :: else -> ss[x] = S_FAILED
            fi }
        :: (ss[x] == QUEUED || ss[x] == SENT) && clk && !pub[x] ->
            ask(S(x), STATUS, x, 0, 0);                         /* S6: what that writes comes by the feed, too */
            d_step { ANSWERED(S(x)); reply[S(x)] = NONE }
        od
    } unless { atomic { death ? _ -> reply[S(x)] = NONE } };
    goto again
}

/* --- the recipient's node: its listener and its worker ---------------------------------------------------- */
proctype Listener(byte x) {
again: {
end:    do
        :: rs[x] == NEW && wire[x] ->
            wire[x] = false;
            if
            :: true ->                                          /* R1 to R5 hold */
#ifdef M_NO_WRITE_AHEAD
               nrr_out[x] = true;                               /* the NRR leaves, and is committed after that */
#endif
               rs[x] = SIGNED;                                  /* R6: envelope, NRO and NRR in one commit */
               SAY(said_250[x])
            :: SAY(said_550[x])                                 /* they don't: nothing changed */
            fi
        :: rs[x] != NEW && wire[x] -> d_step { wire[x] = false; SAY(said_250[x]) }    /* R6: never a second NRR */
        od
    } unless { death ? _ };
    goto again
}

proctype Trader(byte x) {
again: {
end:    do
        :: rs[x] == SIGNED ->                                   /* R7: at once, and until a terminal token comes */
            atomic { nrr_out[x] = true; ask(R(x), COMPLETE, x, x, escrow_in[x]) };
            atomic {
                ANSWERED(R(x));
                if
                :: reply[R(x)] == COMPLETED -> rs[x] = HAVE     /* V0 to V5 hold; s_T is durable */
                :: reply[R(x)] == EXPIRED || reply[R(x)] == INVALID || reply[R(x)] == ABORTED -> rs[x] = R_FAILED
                :: else                                         /* no answer, or an error: again */
                fi;
                reply[R(x)] = NONE
            }
        :: rs[x] == HAVE ->                                     /* R8 */
            if
            :: rs[x] = DELIVERED
#ifdef BAD_S
            :: rs[x] = FAULTY                                   /* good shares, bad ciphertext: the proof is kept */
#endif
            fi
        od
    } unless { atomic { death ? _ -> reply[R(x)] = NONE } };
    goto again
}

proctype Clock() { clk = true }         /* at any moment, also between a worker's check and its transaction */

#ifdef REVOCATION
proctype Notice() {                     /* the dishonest party's domain revokes its key */
    notice = true;
    effective = true
}
#endif

/* --- the adversary: strangers, the wire, and whichever party is dishonest ------------------------------------ */
/* NRRs that it can show: replayed ones, its own, and those for manifests that it made itself. */
#ifdef BAD_R
#define KNOWS_NRR(n) (nrr_out[n] || wire[n] || (n) >= HONEST_N)
#else
#define KNOWS_NRR(n) (nrr_out[n] || (n) >= HONEST_N)
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
    :: atomic { ANY(x);
        if
#ifdef BAD_S
        :: !wire[x] -> wire[x] = true                           /* an envelope as often as it likes, or never */
#endif
#ifdef BAD_R
        :: KNOWS_NRR(x) && !said_250[x] -> said_250[x] = true   /* and then does nothing, or all of this */
        :: KNOWS_NRR(x) && !said_550[x] -> said_550[x] = true
#endif
        :: true
        fi; x = 0 }
    od
}

#else /* BAD_T */

/* --- a corrupt TTP with a ledger: witnesses hold it to one append-only tree, so a leaf that one party can rely on,
 * everybody sees. It signs what it likes, opens E_T when it has it, hands out or keeps back what it likes. --------- */
bool leaf_good[N], leaf_junk[N];        /* COMPLETED for hM; the masked share opens com_T, or is junk */
bool leaf_other[N];                     /* EXPIRED, INVALID or ABORTED for hM */
bool to_S[N], to_R[N];                  /* the TTP answers this party */
bool swapped, T_sT, T_sR;               /* the directory names the TTP's own key for R; what the TTP knows */
/* Two leaves for one hM: anybody shows them, the unsalted hM links them (evidence.md section 6). */
#ifdef M_SALTED
#define proof(x) false
#else
#define proof(x) ((leaf_good[x] || leaf_junk[x]) && leaf_other[x])
#endif
#ifdef M_NO_LEAF
#define SEES(leaf) true                 /* a token is believed without its leaf */
#else
#define SEES(leaf) (leaf)
#endif

proctype Sender(byte x) {
end: do
    :: d_step { ss[x] == NEW && !swapped -> ss[x] = QUEUED }    /* S1: the binding is its domain CA's, and pinned */
#ifdef M_DIRECTORY
    :: d_step { ss[x] == NEW && swapped -> ss[x] = QUEUED; T_sR = true }        /* the directory is believed */
#endif
    :: ss[x] == QUEUED && !wire[x] && rs[x] == NEW -> wire[x] = true            /* S4 */
    :: ss[x] == QUEUED && to_S[x] && nrr_out[x] && leaf_good[x] -> ss[x] = RECEIPTED    /* S5: V0 to V5 */
    :: ss[x] == QUEUED && to_S[x] && SEES(leaf_other[x]) -> ss[x] = S_FAILED            /* S5: V4, V5 */
    od
}

proctype Recipient(byte x) {
end: do
    :: d_step { rs[x] == NEW && wire[x] -> wire[x] = false; rs[x] = SIGNED }    /* R1 to R6 */
    :: rs[x] == SIGNED && !nrr_out[x] -> nrr_out[x] = true                      /* R7 */
    :: rs[x] == SIGNED && leaf_good[x] -> rs[x] = HAVE          /* from the answer, or off any mirror with M in hand */
    :: rs[x] == SIGNED && to_R[x] && SEES(leaf_other[x]) -> rs[x] = R_FAILED
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
    :: wire[x] || nrr_out[x] -> T_sT = true                     /* it opens the escrow, asked or not */
    :: swapped = true
    :: swapped = false
#ifdef BAD_R
    :: T_sT -> leak[x] = true                                   /* to its accomplice */
#endif
#ifdef BAD_S
    :: !wire[x] -> wire[x] = true
#endif
#ifdef BAD_R
    :: nrr_out[x] = true
#endif
    od
}
#endif

init {
    byte x, c;
    atomic {
        for (x : 0 .. N - 1) {
            led[x] = OPEN; ss[x] = NEW; rs[x] = NEW; good_escrow[x] = true; escrow_in[x] = x;
#ifdef BAD_S
            abort_signed[x] = true;
#if N == 1
            if :: good_escrow[x] = false :: true fi;
#endif
#endif
        };
#ifdef TRANSPLANT
        abort_signed[1] = true;
        if :: escrow_in[1] = 0 :: true fi;
#endif
#ifdef BAD_T
#ifndef BAD_S
        run Sender(0);
#endif
#ifndef BAD_R
        run Recipient(0);
#endif
        run CorruptTTP(0);
#else
        for (x : 0 .. HONEST_N - 1) {
#ifndef BAD_S
            run Sender(x); run Worker(S(x));
#endif
#ifndef BAD_R
            run Listener(x); run Trader(x); run Worker(R(x));
#endif
        };
#ifdef BAD_R
        for (x : 0 .. N - 1) { refuse_signed[x] = true };
        run Worker(Z);
#endif
        run Clock(); run Adversary();
#if CRASHES > 0
        run Reaper();
#endif
#endif
#ifdef REVOCATION
        run Notice();
#endif
#ifdef RESTORE
        run Disaster();
#endif
        x = 0
    }
}

/* --- safety ------------------------------------------------------------------------------------------------------ */
#ifndef BAD_T
ltl safe { [] !(two_outcomes || early) }
ltl one_outcome { [] !two_outcomes }
ltl log_first { [] !early }
ltl stable { [] (led[0] == COMPLETED -> [] (led[0] == COMPLETED)) }
ltl no_sabotage { [] !(led[0] == INVALID || led[0] == ABORTED) }
/* At any instant: who could show a receipt is met by who can ask for the key, and the other way round. */
#ifdef BAD_R
#define even(x) (!readable(x) || receipt(x))
#else
#define even(x) ((!receipt(x) || (rs[x] != NEW && rs[x] != R_FAILED)) && (!readable(x) || receipt(x)))
#endif
#if N > 1
ltl even_now { [] (even(0) && even(1)) }
#else
ltl invalid_no_receipt { [] (told[0] == INVALID -> [] !receipt(0)) }
#endif
#endif
/* --- fairness ---------------------------------------------------------------------------------------------------- */
#ifdef BAD_T
ltl fair_R { [] (receipt(0) -> <> (has_read(0) || proof(0))) }
ltl public_trade { [] (readable(0) -> leaf_good[0]) }
ltl accountable { [] (readable(0) && ss[0] == S_FAILED -> proof(0)) }
ltl secret { [] !(T_sT && T_sR) }
#else
ltl fair_R { [] (receipt(0) -> <> has_read(0)) }
#endif
ltl fair_S { [] (readable(0) -> <> (ss[0] == RECEIPTED)) }
/* --- timeliness -------------------------------------------------------------------------------------------------- */
ltl timely_S { <> (ss[0] == RECEIPTED || ss[0] == S_FAILED || ss[0] == PEER_REFUSED) }
ltl timely_R { [] (rs[0] == SIGNED -> <> (has_read(0) || rs[0] == R_FAILED)) }
/* --- reachability: each of these must be violated ---------------------------------------------------------------- */
ltl never_receipt { [] !(ss[0] == RECEIPTED) }
ltl never_read { [] !has_read(0) }
ltl never_both { [] !(has_read(0) && receipt(0)) }
