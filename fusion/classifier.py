"""A scikit-learn classifier on arrays in memory: no cache, no run folder."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, fields
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from amr.common.devices import choose_device
from amr.common.options import flag
from amr.common.registry import unknown
from amr.fusion.attribution.share import mean_share
from amr.fusion.config import FitConfig
from amr.fusion.data.arrays import clips_of, column_numbers, dataset_of, embeddings_of, select_modalities
from amr.fusion.data.clips import Clips
from amr.fusion.data.normalization import Normalization
from amr.fusion.model import predict_shares
from amr.fusion.resolve import member_of, method_notes, recipe_of, resolve, takes_steps
from amr.fusion.runs.load_head import FittedHead
from amr.fusion.runs.record import RunRecord
from amr.fusion.runs.weights import attributor_of
from amr.fusion.runs.write import history_table
from amr.fusion.train.trainer import DIVERGED, train_group

ONLY = "x"  # name of the one modality of an array without slices


class FusionClassifier(ClassifierMixin, BaseEstimator):
    """Fit a fusion head on embeddings in memory, with or without attribution regularization (AMR).

    With the same clips, seed and settings, and `select="last"`, the weights are those of `amr.fit` on a cache.

    X is one of

    - a dict of arrays: name to `(clips, dim)` or `(clips, steps, dim)`, one array per modality;
    - an array or DataFrame `(clips, columns)` with `slices`, for `cross_val_score`, `GridSearchCV` and pipelines;
    - an array or DataFrame without `slices`: one modality, named x.

    A row of NaN in a modality means that the clip lacks it. Steps of NaN pad the end of shorter clips. Any other NaN,
    and infinity, is refused. Values are taken as float32.

    Args:
        head: Fusion head: concat, sum, film, ...; `amr heads` lists them.
        method: Training method: naive, dropout, ogm-ge, ...; `amr methods` lists them.
        amr_ratio: Target shares, such as 3:1 or audio=3:video=1; None for no AMR. Parts without names follow the order
            of the modalities.
        slices: Modality to its columns of X: a slice, column numbers, or names of DataFrame columns. Ignored if X is
            a dict.
        modalities: Modalities to use, separated by commas; None for all, in the order of the dict or of `slices`.
        hidden: Units of the head's hidden layer; 0 for the head's default, which is none for linear heads.
        experts: Whether each modality has a linear classifier beside the head; all logits are added.
        head_option: KEY=VALUE for the head, or a sequence of them.
        method_option: KEY=VALUE for the method, or a sequence of them.
        adapter: Trainable layer on each embedding: none, linear or mlp.
        adapter_dim: Output size of each adapter.
        amr_weight: Weight of the attribution regularizer; None for the attribution's own, 0 is off.
        amr_level: What has the ratio: batch, the mean share of a batch; or clip, the share of each clip.
        amr_optimizer: Optimizer of the regularizer: shared with the task, or separate.
        attribution: Attribution method; `amr attributions` lists them.
        attribution_output: Output that is attributed: probability, logit or centered.
        attribution_pooling: Norm over a modality's attributions: l2 or l1.
        attribution_baseline: Values for an absent modality: zero or mean.
        attribution_steps: Number of points on the line of integrated gradients.
        embedding_noise: Gaussian noise on the embeddings in training, in deviations over the training clips: 1, or
            audio=2:video=0; None for none.
        epochs: Number of passes over the training clips.
        batch_size: Clips per batch.
        lr: Learning rate; None for the method's own.
        weight_decay: Weight decay; None for the method's own.
        optimizer: adamw, adam, sgd or adamax; None for the method's own.
        momentum: Momentum of SGD; None for 0.9.
        lr_step: Epochs after which the learning rate is multiplied by `lr_factor`, each time; 0 for never, None for the
            method's own.
        lr_factor: Factor of `lr_step`; None for the method's own, else 0.1.
        normalize: standard to standardize each dimension by the training clips, or none.
        select: Epoch to keep: the last, or the one with the best accuracy or loss on held-out clips.
        validation_fraction: Part of the clips, above 0 and below 1, that is held out of training, stratified by class,
            to choose the epoch; None to train on all clips.
        random_state: Seed of initial weights, batches, noise and held-out clips, or a generator that draws the seed.
        device: Device that trains: auto, cpu or cuda. The fitted classifier predicts on the CPU.

    Attributes:
        classes_: Classes, sorted, `(classes,)`.
        n_features_in_: Number of columns of X; of a dict, the sum of all `dim`.
        feature_names_in_: Names of the columns, if X was a DataFrame whose column names are all text.
        modalities_: Names of the modalities, in order.
        shares_: Modality to its mean share on the training clips, by the attribution of the settings.
        history_: One row per epoch: losses, shares on the held-out clips, and which epoch was chosen.
        head_: Fitted head, a `torch.nn.Module` as `amr.load_head` returns it.

    Example:
        >>> import numpy as np
        >>> rng, y = np.random.default_rng(0), np.arange(90) % 3
        >>> X = {name: rng.normal(size=(90, 8)) + 2 * np.eye(8)[y] for name in ("audio", "video")}
        >>> classifier = FusionClassifier(amr_ratio="3:1", lr=0.01).fit(X, y)
        >>> classifier.predict(X).shape, classifier.score(X, y) > 0.9
        ((90,), True)
        >>> round(classifier.shares_["audio"], 1)
        0.7

        Cross-validation and grid search take one array with `slices`:

        >>> from sklearn.model_selection import GridSearchCV
        >>> columns = {"audio": slice(0, 8), "video": slice(8, 16)}
        >>> search = GridSearchCV(FusionClassifier(slices=columns), {"amr_ratio": [None, "1:1"]})
        >>> search.fit(np.hstack(list(X.values())), y)  # doctest: +SKIP
    """

    def __init__(
        self,
        head: str = FitConfig.head,
        method: str = FitConfig.method,
        amr_ratio: str | None = FitConfig.amr_ratio,
        slices: Mapping[str, slice | Sequence[int] | Sequence[str]] | None = None,
        *,
        modalities: str | None = FitConfig.modalities,
        hidden: int = FitConfig.hidden,
        experts: bool = FitConfig.experts,
        head_option: str | Sequence[str] = FitConfig.head_option,
        method_option: str | Sequence[str] = FitConfig.method_option,
        adapter: str = FitConfig.adapter,
        adapter_dim: int = FitConfig.adapter_dim,
        amr_weight: float | None = FitConfig.amr_weight,
        amr_level: str = FitConfig.amr_level,
        amr_optimizer: str = FitConfig.amr_optimizer,
        attribution: str = FitConfig.attribution,
        attribution_output: str = FitConfig.attribution_output,
        attribution_pooling: str = FitConfig.attribution_pooling,
        attribution_baseline: str = FitConfig.attribution_baseline,
        attribution_steps: int = FitConfig.attribution_steps,
        embedding_noise: str | None = FitConfig.embedding_noise,
        epochs: int = FitConfig.epochs,
        batch_size: int = FitConfig.batch_size,
        lr: float | None = FitConfig.lr,
        weight_decay: float | None = FitConfig.weight_decay,
        optimizer: str | None = FitConfig.optimizer,
        momentum: float | None = FitConfig.momentum,
        lr_step: int | None = FitConfig.lr_step,
        lr_factor: float | None = FitConfig.lr_factor,
        normalize: str = FitConfig.normalize,
        select: str = "last",  # not FitConfig's: no clips are held out unless validation_fraction is given
        validation_fraction: float | None = None,
        random_state: int | np.random.RandomState | None = FitConfig.seed,
        device: str = FitConfig.device,
    ) -> None:
        self.head = head
        self.method = method
        self.amr_ratio = amr_ratio
        self.slices = slices
        self.modalities = modalities
        self.hidden = hidden
        self.experts = experts
        self.head_option = head_option
        self.method_option = method_option
        self.adapter = adapter
        self.adapter_dim = adapter_dim
        self.amr_weight = amr_weight
        self.amr_level = amr_level
        self.amr_optimizer = amr_optimizer
        self.attribution = attribution
        self.attribution_output = attribution_output
        self.attribution_pooling = attribution_pooling
        self.attribution_baseline = attribution_baseline
        self.attribution_steps = attribution_steps
        self.embedding_noise = embedding_noise
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.momentum = momentum
        self.lr_step = lr_step
        self.lr_factor = lr_factor
        self.normalize = normalize
        self.select = select
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.dict = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the head.

        Args:
            X: Embeddings, one row per clip.
            y: Class of each clip, `(clips,)`.

        Raises:
            ValueError: X, y or a parameter cannot be used.
            RuntimeError: Training diverged.
        """
        with _parameter_names():
            config = self._config()
            keep_steps = takes_steps(config)
            device = choose_device(config.device)
        arrays, y = self._training_arrays(X, y)
        self.modalities_ = tuple(select_modalities(config.modalities, arrays))
        self.classes_, target = _classes(y)
        embeddings, present = embeddings_of({m: arrays[m] for m in self.modalities_}, keep_steps=keep_steps)
        dataset = dataset_of(embeddings, present, target, self.classes_)
        with _parameter_names():
            config = resolve(config, dataset)
            modalities = {m: asdict(info) for m, info in dataset.infos.items()}
            record = RunRecord(config, dataset.classes, modalities, cache="")
            recipe = recipe_of(record)
        train, val = self._split(target, config.seed)
        normalization = dataset.normalization(config.normalize, train)
        for note in [*method_notes(config, self.modalities_), *_unseen(normalization)]:
            warnings.warn(note, stacklevel=2)
        train_clips, val_clips = (clips_of(dataset, normalization, rows, device) for rows in (train, val))
        with _parameter_names():
            fitted = train_group(recipe, [member_of(record)], train_clips, val_clips)
            if fitted.diverged.any():
                raise RuntimeError(f"training must stay finite, got a loss or weights that did not. {DIVERGED}")
        _, share, counted = predict_shares(fitted.model, train_clips, recipe.attributor)
        mean = mean_share(share[0], counted[0], of_sums=recipe.attributor.uses_partners)
        self.shares_ = dict(zip(self.modalities_, mean.tolist(), strict=True))
        # without held-out clips there is nothing to say of them
        self.history_ = history_table(fitted, 0).dropna(axis="columns", how="all")
        self.head_ = FittedHead(record, fitted.model.cpu(), normalization).eval()
        self._record, self._normalization = record, normalization
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each clip, `(clips,)`.

        Args:
            X: Embeddings, as in `fit`. Modalities may be left out of a dict: all clips then lack them.
        """
        best = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class, `(clips, classes)`, in the order of `classes_`.

        Args:
            X: Embeddings, as in `predict`.
        """
        check_is_fitted(self)
        clips = self._new_clips(X)
        head = deepcopy(self.head_).double()  # in float32, a prediction would depend on the other clips of its batch
        chunks, logits = clips.chunks(1), []
        with torch.no_grad():
            for start in chunks:
                rows = slice(start, start + chunks.step)
                logits.append(head({m: e[rows] for m, e in clips.embeddings.items()}, clips.present[rows]))
        return torch.cat(logits).softmax(-1).numpy()

    def shares(self, X: Any) -> pd.DataFrame:
        """Measure the share of each modality in each clip's decision.

        Args:
            X: Embeddings, as in `predict`.

        Returns:
            One row per clip, one column per modality, with the index of X if it has one. NaN where a clip has fewer
            than two of several modalities, or where all attributions are zero.
        """
        check_is_fitted(self)
        clips = self._new_clips(X)
        present = self._normalization.mask(clips.present)
        normalized = Clips(self._normalization.apply(clips.embeddings, present), present, clips.target)
        _, share, counted = predict_shares(self.head_.model, normalized, attributor_of(self._record), of_each_clip=True)
        values = share[0].masked_fill(~counted[0][:, None], torch.nan).numpy()
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(values, columns=list(self.modalities_), index=index)

    def _config(self) -> FitConfig:
        """The settings as `amr.fit` takes them, checked as far as possible without data."""
        if not (self.amr_ratio is None or isinstance(self.amr_ratio, str)):
            raise ValueError(f"amr_ratio must be text or None, got {self.amr_ratio!r}. Pass for example '3:1'.")
        names = {each.name for each in fields(FitConfig)}
        settings = {name: value for name, value in self.get_params(deep=False).items() if name in names}
        for name in ("head_option", "method_option"):
            texts = settings[name]
            settings[name] = (texts,) if isinstance(texts, str) else tuple(texts)
        if not isinstance(self.random_state, Integral):
            return FitConfig(**settings, seed=int(check_random_state(self.random_state).randint(2**31 - 1)))
        return FitConfig(**settings, seed=int(self.random_state))

    def _training_arrays(self, X: Any, y: Any) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Modality to its array, and the labels, checked."""
        if _is_dict(X):
            y = validate_data(self, "no_validation", y)
            arrays = self._dict_arrays(X)
            if not arrays:
                raise ValueError("X must hold at least one array, got an empty dict. Pass {'audio': audio}.")
            check_consistent_length(*arrays.values(), y)
            self._embed_dims: dict[str, int] | None = {m: values.shape[-1] for m, values in arrays.items()}
            self.n_features_in_ = sum(self._embed_dims.values())
            return arrays, y
        values, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite=self._finite())
        self._embed_dims = None
        if self.slices is None and self.amr_ratio is not None and self.amr_ratio.strip().lower() != "none":
            raise ValueError(
                f"amr_ratio must be left out for one array without slices, got {self.amr_ratio!r}. Pass slices such as "
                "{'audio': slice(0, 512), 'video': slice(512, 1024)}."
            )
        self._columns = self._parse_slices(getattr(self, "feature_names_in_", None))
        return {m: values[:, columns] for m, columns in self._columns.items()}, y

    def _new_clips(self, X: Any) -> Clips:
        """Clips to predict, before normalization; their target is 0."""
        if _is_dict(X) != (self._embed_dims is not None):
            fitted_on = "an array" if self._embed_dims is None else f"a dict of {', '.join(self._embed_dims)}"
            raise ValueError(f"X must be {fitted_on}, as in fit, got {type(X).__name__}. Pass it as in fit.")
        if self._embed_dims is None:
            values = validate_data(self, X, reset=False, dtype=np.float32, ensure_all_finite=self._finite())
            arrays = {m: values[:, self._columns[m]] for m in self.modalities_}
        else:
            arrays = self._new_dict_arrays(X, self._embed_dims)
        embeddings, present = embeddings_of(arrays, keep_steps=self.head_.model.head.takes_steps)
        return Clips(embeddings, present, torch.zeros(len(present), dtype=torch.long))

    def _new_dict_arrays(self, X: Mapping[str, Any], embed_dims: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Modality to its array; NaN throughout where X leaves it out."""
        for m in X:
            if m not in embed_dims:
                raise unknown("X's modality", str(m), embed_dims)
        arrays = self._dict_arrays({m: X[m] for m in self.modalities_ if m in X})
        if not arrays:
            raise ValueError(f"X must hold one of {', '.join(self.modalities_)}, got none of them. Add one.")
        check_consistent_length(*arrays.values())
        for m, values in arrays.items():
            if values.shape[-1] != embed_dims[m]:
                raise ValueError(
                    f"X[{m!r}] must be (clips, {embed_dims[m]}) or (clips, steps, {embed_dims[m]}), "
                    f"got {values.shape}. Pass it as in fit."
                )
        num_clips = len(next(iter(arrays.values())))
        for m in self.modalities_:
            if m not in arrays:
                arrays[m] = np.full((num_clips, embed_dims[m]), np.nan, np.float32)
        return {m: arrays[m] for m in self.modalities_}

    def _finite(self) -> bool | str:
        """`ensure_all_finite` for scikit-learn: NaN may mark an absent modality, unless there is only one."""
        return True if self.slices is None else "allow-nan"

    def _dict_arrays(self, X: Mapping[str, Any]) -> dict[str, np.ndarray]:
        arrays = {}
        for m, values in X.items():
            checked = check_array(
                values,
                dtype=np.float32,
                ensure_all_finite="allow-nan",
                allow_nd=True,
                estimator=self,
                input_name=f"X[{m!r}]",
            )
            if checked.ndim > 3:
                raise ValueError(
                    f"X[{m!r}] must be (clips, dim) or (clips, steps, dim), got {checked.shape}. Reshape it."
                )
            arrays[m] = checked
        return arrays

    def _parse_slices(self, names: np.ndarray | None) -> dict[str, np.ndarray]:
        """Modality to its column numbers.

        Args:
            names: Names of the columns; None if they have none.
        """
        if self.slices is None:
            return {ONLY: np.arange(self.n_features_in_)}
        if not isinstance(self.slices, Mapping) or len(self.slices) == 0:
            raise ValueError(
                f"slices must be a dict of modality to columns, got {self.slices!r}. "
                "Pass for example {'audio': slice(0, 512), 'video': slice(512, 1024)}."
            )
        return {m: column_numbers(m, which, self.n_features_in_, names) for m, which in self.slices.items()}

    def _split(self, target: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of the clips that train and of those that are held out, ascending."""
        rows, fraction = np.arange(len(target)), self.validation_fraction
        if fraction is None:
            if self.select != "last":
                raise ValueError(
                    f"validation_fraction must be given to choose the epoch by {self.select}, got None. "
                    "Pass validation_fraction=0.2, or select='last'."
                )
            return rows, rows[:0]
        if not 0 < fraction < 1:
            raise ValueError(f"validation_fraction must be above 0 and below 1, got {fraction}. Pass for example 0.2.")
        train, val = train_test_split(rows, test_size=fraction, stratify=target, random_state=seed % 2**32)
        return np.sort(train), np.sort(val)


def _is_dict(X: Any) -> bool:
    return isinstance(X, Mapping) and not issparse(X)  # some sparse matrices are dicts


def _classes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes, sorted, and the number of each clip's class."""
    check_classification_targets(y)
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"y must have at least two classes, got 1 class ({classes.tolist()[0]!r}). Add clips of another."
        )
    return classes, target


def _unseen(normalization: Normalization) -> list[str]:
    unseen = [m for m, seen in normalization.seen.items() if not seen]
    return [f"no training clip has {m}: it counts as absent everywhere" for m in unseen]


_PARAMETERS = {flag(each.name): each.name for each in fields(FitConfig)} | {flag("seed"): "random_state"}
_FLAG = re.compile(r"--[a-z]+(?:-[a-z]+)*")
_ADVICE = re.compile(rf"(Pass (?:for example )?)({_FLAG.pattern}) ([^\s,]+?)(?=[.,;]?(?:\s|$))")


@contextmanager
def _parameter_names() -> Iterator[None]:
    """Let errors name parameters, not options of the command line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        text = _ADVICE.sub(r"\1\2='\3'", str(error))
        text = _FLAG.sub(lambda match: _PARAMETERS.get(match[0], match[0]), text)
        if text == str(error):
            raise
        raise (ValueError if isinstance(error, ValueError) else RuntimeError)(text) from error
