"""Options of ``accel finetune`` beyond those it shares, and the recipe they ask for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from accel.cli.compress import kept_codecs
from accel.cli.options import output_file, output_folder, positive_integer, positive_number

if TYPE_CHECKING:
    from compiler.training import Recipe, TrainingOptions

HELD_BACK = 0.1


def add_data(parser: argparse.ArgumentParser) -> None:
    """Samples and what they are for."""
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="FILE.npz or a folder of such, or fashion_mnist: pictures less their mean over their deviation "
        "(FASHION_MEAN, FASHION_DEVIATION of compiler.frontend.fashion_mnist), not 0 to 255 or 0 to 1",
    )
    parser.add_argument(
        "--hold-back",
        metavar="SHARE",
        type=_share,
        default=HELD_BACK,
        help=f"share of samples that are only scored, where the data have no test split (default {HELD_BACK})",
    )
    parser.add_argument("--loss", help="cross_entropy (with labels), mse, cosine or kl to the float model")
    parser.add_argument(
        "--imitate",
        choices=("layers", "outputs"),
        help="with a loss towards the float model, what of it is learned: what is inside it, too, or its outputs alone "
        "(default layers; outputs take a quarter less time, but many layers of few bits stop telling inputs apart)",
    )


def add_loop(parser: argparse.ArgumentParser) -> None:
    """How the loop runs."""
    parser.add_argument("--epochs", metavar="N", type=positive_integer, default=1, help="default 1")
    parser.add_argument("--batch", metavar="N", type=positive_integer, default=128, help="samples a step (default 128)")
    parser.add_argument(
        "--lr",
        type=positive_number,
        default=2e-4,
        help="learning rate of biases, norms and weights behind integers, falling as a cosine (default 2e-4)",
    )
    parser.add_argument(
        "--codebook-lr", type=positive_number, help="of codebooks and scales, relative to their size (default 5 lr)"
    )
    parser.add_argument("--sign-lr", type=positive_number, help="of latent signs (default 2.5 lr)")
    parser.add_argument("--warm-up", metavar="SHARE", type=_share, default=0.0, help="of the steps (default 0)")
    parser.add_argument(
        "--decay",
        type=positive_number,
        default=0.0,
        help="AdamW's, of matrices without a codec and of weights behind integers",
    )
    parser.add_argument("--clip", type=positive_number, help="largest norm of all gradients together")
    parser.add_argument(
        "--threads",
        metavar="N",
        type=positive_integer,
        default=1,
        help="threads of torch, whatever OMP_NUM_THREADS says (default 1); sums round by their number, so the same "
        "command gives the same file on one machine, and --resume takes no other number",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default float32")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """How compressed weights learn."""
    parser.add_argument(
        "--codebook-gradient",
        choices=("sum", "mean"),
        default="sum",
        help="of the gradients of all vectors with a codeword (default sum); AdamW divides constant factors out, so "
        "that they differ for lr2vq, or with gradients that are clipped",
    )
    parser.add_argument("--signs", choices=("learned", "fixed"), default="learned", help="of ssvq (default learned)")
    parser.add_argument("--alpha", type=positive_number, default=1.0, help="latent signs start as alpha times weights")
    parser.add_argument("--freeze-interval", metavar="STEPS", type=positive_integer, help="between checks of signs")
    parser.add_argument("--no-freezing", action="store_true", help="let all signs move to the end")


def add_records(parser: argparse.ArgumentParser) -> None:
    """Checkpoints and logs."""
    parser.add_argument("--checkpoint", metavar="DIR", type=output_folder, help="keep the state of this run here")
    parser.add_argument(
        "--checkpoint-every", metavar="STEPS", type=positive_integer, default=200, help="default 200, and at the end"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the checkpoint (or start), to the same result"
    )
    parser.add_argument("--log", metavar="FILE.csv", type=output_file, help="a row a step")
    parser.add_argument("--tensorboard", metavar="DIR", type=output_folder, help="the same rows for TensorBoard")


def _share(text: str) -> float:
    """A number of at least 0 and below 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a share, at least 0 and below 1")
    return share


def recipe_of(arguments: argparse.Namespace, labelled: bool) -> Recipe:
    """What the options ask for; raises ``CodecError`` or ``ConfigError``."""
    from accel.codecs import parse_codec
    from compiler.training import Freezing, Recipe, WeightOptions, find_loss

    return Recipe(
        parse_codec(arguments.codec),
        find_loss(arguments.loss, labelled),
        kept_codecs(arguments.keep),
        arguments.scale,
        arguments.vector_axis,
        arguments.imitate or "layers",
        WeightOptions(
            arguments.codebook_gradient,
            arguments.signs,
            arguments.alpha,
            None if arguments.no_freezing else Freezing(arguments.freeze_interval),
        ),
        _loop(arguments),
    )


def _loop(arguments: argparse.Namespace) -> TrainingOptions:
    from compiler.training import TrainingOptions

    chosen = {
        "codebook_factor": arguments.codebook_lr and arguments.codebook_lr / arguments.lr,
        "sign_factor": arguments.sign_lr and arguments.sign_lr / arguments.lr,
    }
    return TrainingOptions(
        epochs=arguments.epochs,
        batch=arguments.batch,
        rate=arguments.lr,
        decay=arguments.decay,
        warm_up=arguments.warm_up,
        clip=arguments.clip,
        seed=arguments.seed,
        precision=arguments.precision,
        **{name: value for name, value in chosen.items() if value},
    )
