"""The FHIR elements this project reads, as lenient typed structures: R4's, under R4's names.

What DSTU2, STU3 and R5 call otherwise, or write in another shape, is read too, and stands under R4's name
afterwards (`__post_init__`): a stay is one in every version.

One resource is decoded at a time, straight into these: nothing else of it is kept. Unknown elements are
passed over, `null` and absence are the same, values stay undecoded. A resource that doesn't fit (an object
where an array belongs) fails alone; who called lists it as unreadable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

NOT_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""Deep nesting ends in a RecursionError, text that isn't UTF-8 in its own: to a reader both are no JSON."""


class Coding(Struct, frozen=True, gc=False, omit_defaults=True):
    system: str | None = None
    code: str | None = None
    display: str | None = None


class CodeableConcept(Struct, frozen=True, gc=False, omit_defaults=True):
    coding: tuple[Coding, ...] | None = None
    text: str | None = None


class CodingsOnly(Struct, frozen=True, gc=False, omit_defaults=True):
    """A CodeableConcept by which thousands of readings are told apart: its text, which may be another in each
    of them, is passed over."""

    coding: tuple[Coding, ...] | None = None


class Identifier(Struct, frozen=True, gc=False, omit_defaults=True):
    system: str | None = None
    value: str | None = None


class Reference(Struct, frozen=True, gc=False, omit_defaults=True):
    reference: str | None = None
    type: str | None = None
    identifier: Identifier | None = None


class Period(Struct, gc=False, omit_defaults=True):
    start: str | None = None
    end: str | None = None


class Repeat(Struct, gc=False, omit_defaults=True):
    boundsPeriod: Period | None = None


class Timing(Struct, gc=False, omit_defaults=True):
    event: list[str] | None = None
    repeat: Repeat | None = None

    @property
    def bounds(self) -> Period | None:
        """From when to when it goes on."""
        return None if self.repeat is None else self.repeat.boundsPeriod


class Quantity(Struct, gc=False, omit_defaults=True):
    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    code: str | None = None


class MeasuredQuantity(Struct, frozen=True, gc=False, omit_defaults=True):
    """A Quantity that was measured. Some senders write the number as a text."""

    value: float | str | None = None
    unit: str | None = None
    code: str | None = None


class MeasuredRange(Struct, frozen=True, gc=False, omit_defaults=True):
    """Of a Range or a Ratio, whichever numbers it has."""

    low: MeasuredQuantity | None = None
    high: MeasuredQuantity | None = None
    numerator: MeasuredQuantity | None = None
    denominator: MeasuredQuantity | None = None


class SampledData(Struct, frozen=True, gc=False, omit_defaults=True):
    data: str | None = None


class Meta(Struct, gc=False, omit_defaults=True):
    versionId: str | None = None
    lastUpdated: str | None = None
    security: tuple[Coding, ...] | None = None
    tag: tuple[Coding, ...] | None = None


class Resource(Struct, gc=False, omit_defaults=True, tag_field="resourceType"):
    """What every resource has. The type is the tag: one decoder reads any of them."""

    id: str | None = None
    meta: Meta | None = None
    identifier: list[Identifier] | None = None
    contained: list[Raw] | None = None


class ValueHolder(Struct, gc=False, omit_defaults=True):
    """value[x]: the one that most readings have is decoded, the others stay as they stand in the text."""

    valueQuantity: MeasuredQuantity | None = None
    valueCodeableConcept: Raw = Raw()
    valueString: Raw = Raw()
    valueBoolean: Raw = Raw()
    valueInteger: Raw = Raw()
    valueRange: Raw = Raw()
    valueRatio: Raw = Raw()
    valueSampledData: Raw = Raw()
    valueTime: Raw = Raw()
    valueDateTime: Raw = Raw()
    valuePeriod: Raw = Raw()
    dataAbsentReason: Raw = Raw()


class Component(ValueHolder, gc=False, omit_defaults=True):
    code: Raw = Raw()
    extension: Raw = Raw()


class ReferenceExtension(Struct, frozen=True, gc=False, omit_defaults=True):
    """An extension that names another resource, if it is one."""

    url: str = ""
    valueReference: Reference | None = None


class Observation(ValueHolder, gc=False, omit_defaults=True, tag_field="resourceType"):
    id: str | None = None
    meta: Meta | None = None
    identifier: tuple[Identifier, ...] | None = None
    status: str | None = None
    category: Raw = Raw()
    code: CodingsOnly | None = None
    subject: Reference | None = None
    focus: Raw = Raw()
    """Whom or what it is about, where that is not the subject itself."""
    encounter: Reference | None = None
    context: Reference | None = None
    """What `encounter` was called before R4; it may also be an EpisodeOfCare."""
    effectiveDateTime: str | None = None
    effectivePeriod: Period | None = None
    effectiveInstant: str | None = None
    effectiveTiming: Timing | None = None
    performer: tuple[Reference, ...] | None = None
    method: CodingsOnly | None = None
    device: Reference | None = None
    extension: Raw = Raw()
    modifierExtension: Raw = Raw()
    hasMember: tuple[Reference, ...] | None = None
    component: tuple[Component, ...] | None = None
    contained: list[Raw] | None = None


class CodeableReference(Struct, frozen=True, gc=False, omit_defaults=True):
    """What R5 has in some places where R4 has a concept."""

    concept: CodeableConcept | None = None


class Conformance(Struct, gc=False, omit_defaults=True):
    specification: CodeableConcept | None = None


class Specialization(Struct, gc=False, omit_defaults=True):
    systemType: CodeableConcept | None = None


class DeviceName(Struct, gc=False, omit_defaults=True):
    name: str | None = None
    value: str | None = None
    """What `name` is called from R5 on."""


class UdiCarrier(Struct, gc=False, omit_defaults=True):
    deviceIdentifier: str | None = None
    carrierAIDC: str | None = None
    carrierHRF: str | None = None


class Device(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    type: CodeableConcept | list[CodeableConcept] | None = None
    """A list from R5 on."""
    manufacturer: str | None = None
    modelNumber: str | None = None
    serialNumber: str | None = None
    deviceName: list[DeviceName] | None = None
    specialization: list[Specialization] | None = None
    udiCarrier: list[UdiCarrier] | None = None
    patient: Reference | None = None
    name: list[DeviceName] | None = None
    """What `deviceName` is called from R5 on."""
    conformsTo: list[Conformance] | None = None
    """What `specialization` is called from R5 on."""
    model: str | None = None
    """What `modelNumber` was called before R4."""
    udi: UdiCarrier | str | None = None
    """What `udiCarrier` was before R4; in DSTU2 the text of the carrier."""

    def __post_init__(self) -> None:
        if self.udi is not None and self.udiCarrier is None:
            self.udiCarrier = [UdiCarrier(carrierHRF=self.udi) if isinstance(self.udi, str) else self.udi]
        if self.name is not None and self.deviceName is None:
            self.deviceName = [DeviceName(part.name or part.value) for part in self.name]
        if self.conformsTo is not None and self.specialization is None:
            self.specialization = [Specialization(part.specification) for part in self.conformsTo]
        self.modelNumber = self.modelNumber or self.model

    @property
    def type_text(self) -> str | None:
        """Its type in words; the display of a coding that has no code is no more than that."""
        types = self.type if isinstance(self.type, list) else [] if self.type is None else [self.type]
        words = [one.text for one in types]
        words += [coding.display for one in types for coding in one.coding or () if not coding.code]
        return next((text for text in words if text), None)


class DeviceMetric(Resource, gc=False, omit_defaults=True):
    source: Reference | None = None
    device: Reference | None = None
    """What `source` is called from R5 on."""

    def __post_init__(self) -> None:
        self.source = self.source or self.device


class Participant(Struct, gc=False, omit_defaults=True):
    type: list[CodeableConcept] | None = None
    period: Period | None = None
    individual: Reference | None = None
    actor: Reference | None = None
    """What `individual` is called from R5 on."""

    def __post_init__(self) -> None:
        self.individual = self.individual or self.actor


class EncounterClass(Coding, frozen=True, gc=False, omit_defaults=True):
    """The one coding of R4, or what somebody wrote as a concept."""

    coding: tuple[Coding, ...] | None = None


class FormerClass(Struct, gc=False, omit_defaults=True):
    """What an Encounter was for a while."""

    class_: EncounterClass | None = msgspec.field(default=None, name="class")
    period: Period | None = None


class Encounter(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    class_: EncounterClass | list[CodeableConcept] | str | None = msgspec.field(default=None, name="class")
    """One coding; in DSTU2 a word, from R5 on several concepts."""
    type: list[CodeableConcept] | None = None
    serviceType: CodeableConcept | list[CodeableReference] | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    """What `subject` was called before STU3."""
    participant: list[Participant] | None = None
    period: Period | None = None
    actualPeriod: Period | None = None
    """What `period` is called from R5 on."""
    classHistory: list[FormerClass] | None = None
    length: Quantity | None = None

    def __post_init__(self) -> None:
        self.period = self.period or self.actualPeriod
        if self.status in _FINISHED_IN_R5:
            self.status = "finished"

    @property
    def classes(self) -> list[Coding]:
        if isinstance(self.class_, list):
            return concepts(self.class_)
        if isinstance(self.class_, str):
            return [Coding(code=self.class_)]
        return [] if self.class_ is None else [self.class_, *(self.class_.coding or ())]

    @property
    def kinds(self) -> list[Coding]:
        """Of its types and its service, which say what it was."""
        service = self.serviceType
        services = [part.concept for part in service] if isinstance(service, list) else [service]
        return concepts(self.type, [one for one in services if one is not None])


_FINISHED_IN_R5 = frozenset({"completed", "discharged"})


class Qualification(Struct, gc=False, omit_defaults=True):
    code: CodeableConcept | None = None


class Practitioner(Resource, gc=False, omit_defaults=True):
    active: bool | None = None
    qualification: list[Qualification] | None = None


class PractitionerRole(Resource, gc=False, omit_defaults=True):
    active: bool | None = None
    practitioner: Reference | None = None
    organization: Reference | None = None
    code: list[CodeableConcept] | None = None
    specialty: list[CodeableConcept] | None = None


class ChargeCoding(Coding, frozen=True, gc=False, omit_defaults=True):
    """A coding with all that may say in other ways which code it is."""

    display: str | None = None
    extension: Raw = Raw()
    code_: Raw = msgspec.field(default=Raw(), name="_code")
    display_: Raw = msgspec.field(default=Raw(), name="_display")


class ChargeConcept(Struct, frozen=True, gc=False, omit_defaults=True):
    coding: tuple[ChargeCoding, ...] | None = None
    text: str | None = None
    extension: Raw = Raw()
    text_: Raw = msgspec.field(default=Raw(), name="_text")


class ClaimService(ChargeConcept, frozen=True, gc=False, omit_defaults=True):
    """What was claimed, as STU3 writes it; in DSTU2 it is a single coding."""

    system: str | None = None
    code: str | None = None
    display: str | None = None

    @property
    def concept(self) -> ChargeConcept:
        if self.code is None and self.display is None:
            return self
        return ChargeConcept(
            (*(self.coding or ()), ChargeCoding(self.system, self.code, display=self.display))
        )


class CodedExtension(Struct, frozen=True, gc=False, omit_defaults=True):
    """An extension that says a code, if it is one."""

    valueCoding: Coding | None = None
    valueCodeableConcept: CodeableConcept | None = None


class ChargePerformer(Struct, gc=False, omit_defaults=True):
    function: CodeableConcept | None = None
    actor: Reference | None = None


class ChargeItem(Resource, gc=False, omit_defaults=True):
    """What is `Raw` is read as it stands: whatever shape somebody gives it must never hide a charge."""

    status: str | None = None
    code: ChargeConcept | None = None
    extension: Raw = Raw()
    modifierExtension: Raw = Raw()
    definitionUri: Raw = Raw()
    subject: Reference | None = None
    context: Reference | None = None
    encounter: Reference | None = None
    """What `context` is called from R5 on."""
    occurrenceDateTime: str | None = None
    occurrencePeriod: Period | None = None
    occurrenceTiming: Timing | None = None
    performer: list[ChargePerformer] | None = None
    quantity: Quantity | None = None
    productCodeableConcept: Raw = Raw()
    product: Raw = Raw()
    """What `productCodeableConcept` is called from R5 on: concepts, or references."""
    service: Raw = Raw()
    supportingInformation: Raw = Raw()

    @property
    def seen_in(self) -> Reference | None:
        """The Encounter that it is a charge of."""
        return self.context or self.encounter


class ClaimPart(Struct, gc=False, omit_defaults=True):
    """What was claimed: a line of a Claim or an ExplanationOfBenefit, or a part of one."""

    productOrService: ChargeConcept | None = None
    service: ClaimService | None = None
    """What `productOrService` was called before R4."""
    extension: Raw = Raw()
    quantity: Quantity | None = None

    @property
    def claimed(self) -> ChargeConcept | None:
        if self.productOrService is not None or self.service is None:
            return self.productOrService
        return self.service.concept


class ClaimDetail(ClaimPart, gc=False, omit_defaults=True):
    subDetail: list[ClaimPart] | None = None


class ClaimItem(ClaimPart, gc=False, omit_defaults=True):
    encounter: Raw = Raw()
    servicedDate: str | None = None
    servicedPeriod: Period | None = None
    detail: list[ClaimDetail] | None = None


class ClaimProcedure(Struct, gc=False, omit_defaults=True):
    """What was done, beside the lines that charge it."""

    date: str | None = None
    procedureCodeableConcept: ChargeConcept | None = None


class CareTeamMember(Struct, gc=False, omit_defaults=True):
    provider: Reference | None = None
    role: CodeableConcept | None = None


class Claim(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    use: str | None = None
    patient: Reference | None = None
    provider: Reference | None = None
    careTeam: list[CareTeamMember] | None = None
    billablePeriod: Period | None = None
    item: list[ClaimItem] | None = None
    procedure: list[ClaimProcedure] | None = None


class ExplanationOfBenefit(Resource, gc=False, omit_defaults=True):
    """What a payer answered to a Claim. `addItem`: lines that the payer added."""

    status: str | None = None
    use: str | None = None
    patient: Reference | None = None
    provider: Reference | None = None
    careTeam: list[CareTeamMember] | None = None
    billablePeriod: Period | None = None
    item: list[ClaimItem] | None = None
    procedure: list[ClaimProcedure] | None = None
    addItem: list[ClaimItem] | None = None


class EpisodeOfCare(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    patient: Reference | None = None
    period: Period | None = None
    careManager: Reference | None = None


class Provision(Struct, gc=False, omit_defaults=True):
    type: str | None = None
    period: Period | None = None


class Consent(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    scope: CodeableConcept | None = None
    category: list[CodeableConcept] | None = None
    patient: Reference | None = None
    subject: Reference | None = None
    """What `patient` is called from R5 on."""
    dateTime: str | None = None
    provision: Provision | list[Provision] | None = None
    """From R5 on exceptions to what `decision` says."""
    decision: str | None = None
    period: Period | None = None
    """Where R4 has `provision.period`."""

    @property
    def denies(self) -> bool:
        base = self.provision.type if isinstance(self.provision, Provision) else None
        return "deny" in (base, self.decision)

    @property
    def in_force(self) -> Period:
        inner = self.provision.period if isinstance(self.provision, Provision) else None
        return inner or self.period or Period()


class OrderConcept(CodeableConcept, frozen=True, gc=False, omit_defaults=True):
    """From R5 on its concept stands one step further in."""

    concept: CodeableConcept | None = None


class ServiceRequest(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    intent: str | None = None
    doNotPerform: bool | None = None
    code: OrderConcept | None = None
    orderDetail: list[CodeableConcept] | None = None
    subject: Reference | None = None
    authoredOn: str | None = None
    occurrencePeriod: Period | None = None
    occurrenceTiming: Timing | None = None
    requester: Reference | None = None

    @property
    def in_force(self) -> Period:
        """From when to when it is to be done."""
        timing = self.occurrenceTiming
        return self.occurrencePeriod or (timing and timing.bounds) or Period()


class Procedure(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    code: CodeableConcept | None = None
    category: CodeableConcept | list[CodeableConcept] | None = None
    subject: Reference | None = None
    performedDateTime: str | None = None
    performedPeriod: Period | None = None
    occurrenceDateTime: str | None = None
    """What `performed` is called from R5 on."""
    occurrencePeriod: Period | None = None

    def __post_init__(self) -> None:
        self.performedDateTime = self.performedDateTime or self.occurrenceDateTime
        self.performedPeriod = self.performedPeriod or self.occurrencePeriod


class Condition(Resource, gc=False, omit_defaults=True):
    """Of abatement[x] it is only asked whether there is any, whatever its shape."""

    clinicalStatus: CodeableConcept | None = None
    verificationStatus: CodeableConcept | None = None
    code: CodeableConcept | None = None
    subject: Reference | None = None
    onsetDateTime: str | None = None
    onsetPeriod: Period | None = None
    recordedDate: str | None = None
    abatementDateTime: Raw = Raw()
    abatementAge: Raw = Raw()
    abatementPeriod: Raw = Raw()
    abatementRange: Raw = Raw()
    abatementString: Raw = Raw()
    abatementBoolean: Raw = Raw()
    """Before R4."""

    @property
    def abated(self) -> bool:
        told = (
            self.abatementDateTime,
            self.abatementAge,
            self.abatementPeriod,
            self.abatementRange,
            self.abatementString,
            self.abatementBoolean,
        )
        return any(bytes(one) not in (b"", b"null", b"false") for one in told)


class CarePlan(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    intent: str | None = None
    subject: Reference | None = None
    period: Period | None = None
    created: str | None = None


class Coverage(Resource, gc=False, omit_defaults=True):
    status: str | None = None
    beneficiary: Reference | None = None
    type: CodeableConcept | None = None
    payor: list[Reference] | None = None
    insurer: Reference | None = None
    """What `payor` is called from R5 on."""
    period: Period | None = None
    order: int | None = None

    def __post_init__(self) -> None:
        if self.insurer is not None and self.payor is None:
            self.payor = [self.insurer]


class Patient(Resource, gc=False, omit_defaults=True):
    deceasedBoolean: bool | None = None
    deceasedDateTime: str | None = None
    # Read as it stands: an odd link must not take the patient out.
    link: Raw = Raw()


class Head(Struct, gc=False, omit_defaults=True):
    """Just enough of any resource to name it; of a Bundle also its entries, to read a long one only once."""

    resourceType: str | None = None
    id: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    entry: list[Raw] | None = None
    beneficiary: Reference | None = None
    type: Raw = Raw()
    total: Raw = Raw()
    link: Raw = Raw()
    meta: Raw = Raw()
    timestamp: Raw = Raw()


class Parameter(Struct, gc=False, omit_defaults=True):
    """Of a Parameters resource: what an operation was given, or answers."""

    resource: Raw = Raw()
    part: list[Raw] | None = None


class Parameters(Struct, gc=False, omit_defaults=True):
    parameter: list[Raw] | None = None


class Entry(Struct, gc=False, omit_defaults=True):
    """`request`, `response`, `search` as they stand: what they say besides hides no resource."""

    fullUrl: str | None = None
    resource: Raw = Raw()
    request: Raw = Raw()
    response: Raw = Raw()
    search: Raw = Raw()


class Bundle(Struct, gc=False, omit_defaults=True):
    entry: list[Raw] | None = None
    type: Raw = Raw()
    total: Raw = Raw()
    link: Raw = Raw()
    meta: Raw = Raw()
    timestamp: Raw = Raw()


AnyResource = (
    Observation
    | Device
    | DeviceMetric
    | Encounter
    | Practitioner
    | PractitionerRole
    | ChargeItem
    | Claim
    | ExplanationOfBenefit
    | EpisodeOfCare
    | Consent
    | ServiceRequest
    | CarePlan
    | Procedure
    | Condition
    | Coverage
    | Patient
)

READ_TYPES: frozenset[str] = frozenset(
    kind.__name__
    for kind in (
        Observation,
        Device,
        DeviceMetric,
        Encounter,
        Practitioner,
        PractitionerRole,
        ChargeItem,
        Claim,
        ExplanationOfBenefit,
        EpisodeOfCare,
        Consent,
        ServiceRequest,
        CarePlan,
        Procedure,
        Condition,
        Coverage,
        Patient,
    )
)

CHARGES: Mapping[str, tuple[type[Resource], tuple[str, ...]]] = {
    "ChargeItem": (ChargeItem, ("code", "subject")),
    "Claim": (Claim, ("item", "patient")),
    "ExplanationOfBenefit": (ExplanationOfBenefit, ("item", "addItem", "patient")),
}
"""What tells of charges, with the elements without which one of them can't be believed."""

decode_resource = msgspec.json.Decoder(AnyResource).decode
decode_head = msgspec.json.Decoder(Head).decode
decode_bundle = msgspec.json.Decoder(Bundle).decode
decode_parameters = msgspec.json.Decoder(Parameters).decode
decode_parameter = msgspec.json.Decoder(Parameter).decode
decode_entry = msgspec.json.Decoder(Entry).decode


def contained_in(parts: list[Raw] | None) -> dict[str, Resource]:
    """The resources that another one contains, by id; what can't be read of them is left out."""
    return {id_: inner for id_, inner in _contained(parts) if isinstance(inner, Resource)}


def readings_in(parts: list[Raw] | None) -> dict[str, Observation]:
    """The Observations among them."""
    return {id_: inner for id_, inner in _contained(parts) if isinstance(inner, Observation)}


def _contained(parts: list[Raw] | None) -> Iterator[tuple[str, Resource | Observation]]:
    for part in parts or ():
        try:
            inner = decode_resource(part)
        except NOT_JSON:
            continue
        if inner.id:
            yield inner.id, inner


def loosely(text: bytes | Raw) -> Any:
    """Any JSON value; None where there is none, or none that can be read."""
    if not bytes(text):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def references_in(element: Raw) -> list[Reference]:
    """The References of an element, one or an array of them; what is none is passed over."""
    found: list[Reference] = []
    value = loosely(element)
    for one in value if isinstance(value, list) else [value]:
        try:
            found.append(msgspec.convert(one, Reference))
        except msgspec.ValidationError:
            continue
    return found


def codings_in(extensions: Raw) -> list[Coding]:
    """The codings of an array of extensions; what is none is passed over."""
    found: list[Coding] = []
    value = loosely(extensions)
    for one in value if isinstance(value, list) else []:
        try:
            extension = msgspec.convert(one, CodedExtension)
        except msgspec.ValidationError:
            continue
        found += concepts(extension.valueCodeableConcept)
        found += [extension.valueCoding] if extension.valueCoding is not None else []
    return found


def decode_untyped(text: bytes | Raw) -> Any:
    """Any JSON value; `msgspec.DecodeError` where the text is none."""
    return msgspec.json.decode(text)


def without_misfits(text: bytes | Raw, kind: type[Resource], *needed: str) -> bytes | None:
    """A resource without the elements that don't fit its type; None where one of `needed` is among them, or
    where it is not for these that it can't be read."""
    try:
        value = decode_untyped(text)
    except msgspec.DecodeError:  # a number beyond all bounds
        return None
    if not isinstance(value, dict):
        return None
    decoder = msgspec.json.Decoder(kind)
    kept: dict[str, Any] = {}
    for name, element in value.items():
        try:
            decoder.decode(msgspec.json.encode({"resourceType": kind.__name__, name: element}))
        except msgspec.ValidationError:
            if name in needed:
                return None
        else:
            kept[name] = element
    return None if len(kept) == len(value) else msgspec.json.encode(kept)


def concepts(
    *groups: CodeableConcept | ChargeConcept | list[CodeableConcept] | None,
) -> list[Coding]:
    """Every coding of these concepts, in the order they stand."""
    found: list[Coding] = []
    for group in groups:
        for concept in group if isinstance(group, list) else [group]:
            if concept is not None and concept.coding:
                found.extend(concept.coding)
    return found
