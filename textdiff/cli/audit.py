"""`textdiff audit`: how far a prior's fills are from an exact posterior."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textdiff.cli.checkpoints import add_network_options, load, prior_folder
from textdiff.cli.output import add_folder, add_json, make_folder, publish
from textdiff.cli.parser import SEED, Parser, paced, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.evaluation import Audit, WeightAudit
    from textdiff.posterior import Prior

NOTES = """\
examples:
  textdiff audit --world hmm                       the error of a perfect network that fills several slots at once
  textdiff audit --world hmm --checkpoint runs/worlds/hmm/last --policies strided:6,entropy:6 --methods
  textdiff audit --checkpoint stories --target stories-ar valid.txt --gap-length 8
"""


def run(arguments: list[str]) -> int:
    """Measure, print, and write files where they are wanted; returns the exit status."""
    parser = Parser("textdiff audit", "Measure how far a prior's fills are from an exact posterior.", NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text, with --target")
    add("--world", metavar="NAME", help="the world whose posterior is the truth: hmm, grammar, arithmetic, hmm^abc=1")
    add("--target", metavar="FOLDER", help="or: an autoregressive prior whose posterior is the target")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: a world's perfect network, or the shipped one)")
    add("--policies", metavar="LIST", help="NAME:STEPS or NAME, ... (default: all of them)")
    add("--methods", action="store_true", help="also correct each of the policies by weights, particles and chains")
    add("--gaps", type=whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--gap-length", type=whole(1), default=12, metavar="N", help="tokens in a gap (default 12)")
    add("--draws", type=whole(16), default=64, metavar="N", help="fills of each gap (default 64)")
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of everything (default 0)")
    add_folder(parser, "audit.md, audit.json and, of a world, audit.png")
    add_json(parser)
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if (options.world is None) == (options.target is None):
        raise UserError("name the truth: either --world NAME or --target FOLDER FILE")
    policies = None if options.policies is None else [paced(word) for word in options.policies.split(",")]
    make_folder(options)
    if options.target is not None:
        return publish(_audit_target(options, policies), options, "audit")
    found = _audit_world(options, policies)
    return publish(found, options, "audit", None if options.to is None else found.figure())


def _audit_world(options: argparse.Namespace, policies: Sequence[tuple[str, int | None]] | None) -> Audit:
    """Audit the samplers of a prior against the exact posterior of a world."""
    from textdiff.evaluation import audit, world_items
    from textdiff.evaluation.audit import POLICIES
    from textdiff.inference import SMC, Importance, MetropolisHastings, ParticleGibbs
    from textdiff.posterior import Denoises
    from textdiff.worlds import world

    if options.files:
        raise UserError(f"unexpected {options.files[0]!r}: a world writes its own texts, files go with --target")
    truth = world(options.world)
    prior = None if options.checkpoint is None else load(options.checkpoint, options)
    if prior is not None and not isinstance(prior, Denoises):
        raise UserError(f"{options.checkpoint!r} is autoregressive: an audit is of a diffusion prior's policies")
    policies = POLICIES if policies is None else policies
    methods = {
        f"{type(method).__name__}, {':'.join(map(str, filter(None, policy)))}": (method, policy)
        for policy in (policies if options.methods else ())
        for method in (Importance(), SMC(), ParticleGibbs(), MetropolisHastings())
    }
    longest = 512 if prior is None else prior.context or 512
    plain, tilt, _ = options.world.partition("^")
    items = world_items(
        truth,
        options.gaps,
        options.gap_length,
        seed=options.seed,
        longest=longest,
        evidence_world=world(plain) if tilt else None,  # a reward changes the gaps, not the text around them
    )
    counts = {"draws": options.draws, "seed": options.seed}
    return audit(prior, truth, items=items, policies=policies, methods=methods, progress=report_progress, **counts)


def _audit_target(options: argparse.Namespace, policies: Sequence[tuple[str, int | None]] | None) -> WeightAudit:
    """Audit the weights of a prior's fills towards the posterior of an autoregressive prior."""
    from textdiff.posterior import ExactJoint

    if not options.files:
        raise UserError("there is no text to measure on: name a file of held-out text")
    if options.methods:
        raise UserError("--methods goes with --world: towards another target the weights are the method")

    from textdiff.data import documents, held_out_gaps
    from textdiff.data.corpus import in_memory
    from textdiff.data.sources import check_sources
    from textdiff.evaluation import audit_weights

    check_sources(options.files)
    prior: Prior = load(prior_folder(options), options)
    target = load(options.target, options)
    if not isinstance(target, ExactJoint):
        raise UserError(f"{options.target!r} has no exact joint probability: name an autoregressive prior")
    if policies is not None:
        if len(policies) != 1:
            raise UserError("with --target name one policy, such as --policies strided:16")
        prior = prior.with_policy(*policies[0])

    corpus = in_memory(documents(options.files), prior.tokenizer)
    longest = prior.context or 512
    counts = {"count": options.gaps, "gap": options.gap_length, "longest": longest, "seed": options.seed}
    items = held_out_gaps(corpus, prior.vocabulary, **counts)
    if not items:
        raise UserError(f"no text of {', '.join(options.files)} has room for a gap of {options.gap_length} tokens")
    return audit_weights(prior, target, items, draws=options.draws, seed=options.seed, progress=report_progress)
